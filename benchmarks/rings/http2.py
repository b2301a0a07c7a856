"""Ring "http2": one stream of 32 KiB messages through the state machine in memory, without any input or output.

Beside it h2 alone, driven as its documentation shows: the same frames in, the same messages out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import h2.config
import h2.connection
import h2.events

from benchmarks import frames
from benchmarks.results import CPU, OURS, RATE
from buildkit_session.http2.core import Core
from buildkit_session.http2.events import DataReceived

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.workbench import Workbench

__all__ = ["run"]

RING: Final = "http2"
H2: Final = "h2 alone"

WINDOW: Final = 2**31 - 1
"""Bytes the peer lets us send: never the limit here."""

OUR_WINDOW: Final = 256 * 1024
"""Bytes that h2 lets the peer send ahead: as many as the session does."""

MESSAGE: Final = frames.message(bytes(32 * 1024))
AT_ONCE: Final = 2
"""Messages between two reads or writes: about as much as a socket takes."""

OPENING: Final = frames.opening("/bench.Stream/In", window=WINDOW)
RECEIVED: Final = b"".join(frames.message_frames(1, bytes(32 * 1024))) * AT_ONCE
RESPONSE: Final = [(b":status", b"200"), (b"content-type", b"application/grpc")]


def run(bench: Workbench) -> None:
    """Measure both directions."""
    _measure(bench, "in, 32 KiB messages", _ours_in, _h2_in)
    _measure(bench, "out, 32 KiB messages", _ours_out, _h2_out)


def _measure(bench: Workbench, work: str, ours: Callable[[int], None], alone: Callable[[int], None]) -> None:
    rounds = bench.scale.core_bytes // (AT_ONCE * len(MESSAGE))
    size = rounds * AT_ONCE * len(MESSAGE)
    contestants = [(bench.results.new(RING, work, who), act) for who, act in ((OURS, ours), (H2, alone))]
    for _ in range(bench.scale.runs):
        for measurement, act in contestants:
            wall, cpu = time.perf_counter(), time.process_time()
            act(rounds)
            measurement.add(
                {RATE: size / 1e6 / (time.perf_counter() - wall), CPU: time.process_time() - cpu},
            )


def _ours_in(rounds: int) -> None:
    core = Core()
    core.receive_data(OPENING)
    received = 0
    for _ in range(rounds):
        for event in core.receive_data(RECEIVED):
            if isinstance(event, DataReceived):
                # Copied, as h2 does it, though whoever serves a stream copies the pieces somewhere else.
                data = event.data
                received += len(data)
                core.consumed(1, len(data))
        core.data_to_send(0)
    assert received == rounds * AT_ONCE * len(MESSAGE)


def _ours_out(rounds: int) -> None:
    core = Core()
    core.receive_data(OPENING)
    core.send_headers(1, RESPONSE)
    for _ in range(rounds):
        for _ in range(AT_ONCE):
            core.send_data(1, (MESSAGE,))
        while core.queued(1):
            core.data_to_send(AT_ONCE * len(MESSAGE))
        core.advanced()


def _h2_in(rounds: int) -> None:
    connection = _h2_server()
    received = 0
    for _ in range(rounds):
        for event in connection.receive_data(RECEIVED):
            if isinstance(event, h2.events.DataReceived):
                received += len(event.data or b"")
                connection.acknowledge_received_data(event.flow_controlled_length or 0, 1)
        connection.data_to_send()
    assert received == rounds * AT_ONCE * len(MESSAGE)


def _h2_out(rounds: int) -> None:
    connection = _h2_server()
    connection.send_headers(1, RESPONSE)
    for _ in range(rounds):
        for _ in range(AT_ONCE):
            for start in range(0, len(MESSAGE), frames.MAX_PAYLOAD):
                connection.send_data(1, MESSAGE[start : start + frames.MAX_PAYLOAD])
        connection.data_to_send()


def _h2_server() -> h2.connection.H2Connection:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    connection.initiate_connection()
    connection.receive_data(OPENING)
    for stream_id in (None, 1):
        connection.increment_flow_control_window(OUR_WINDOW, stream_id)
    return connection
