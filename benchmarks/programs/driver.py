"""A gRPC client that costs little, so that the server is what is measured: ``driver.py SOCKET in|out BYTES``.

Its frames were encoded before. It reads frame headers and never looks at payload, gives windows back, and answers what
must be answered. Prints seconds and CPU of the call as JSON; the last message of every call is shorter than the others.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from itertools import accumulate
from typing import Final

from hpack import Decoder

from benchmarks import frames

MESSAGE: Final = bytes(32 * 1024)
WINDOW: Final = 1024 * 1024
CREDIT_AT: Final = WINDOW // 4
READ_SIZE: Final = 256 * 1024
MESSAGES_AT_ONCE: Final = 8
"""32 KiB messages in one write at most: 256 KiB."""


class Wire:
    """One call on one connection, from the client's side.

    Attributes:
        received: bytes of payload.
        status: the call's grpc-status, once it has ended.
        settled: whether the server's SETTINGS have arrived.
    """

    def __init__(self, path: str) -> None:
        self.received = 0
        self.status: bytes | None = None
        self.settled = False
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._buffer = bytearray(READ_SIZE + frames.HEADER_SIZE + frames.MAX_PAYLOAD)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._owed = 0
        self._connection_window = self._initial_window = self._stream_window = frames.DEFAULT_WINDOW
        self._decoder = Decoder()

    @property
    def window(self) -> int:
        """Bytes that may be sent now."""
        return min(self._connection_window, self._stream_window)

    def send(self, data: bytes | memoryview, *, payload: int = 0) -> None:
        """Write frames, ``payload`` bytes of which count against the windows."""
        self._connection_window -= payload
        self._stream_window -= payload
        self._socket.sendall(data)

    def receive(self, *, wait: bool = True) -> None:
        """Take what has arrived, at least something where ``wait`` is set."""
        try:
            count = self._socket.recv_into(self._view[self._filled :], 0, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not count:
            raise ConnectionError("the server hung up")
        end, position = self._filled + count, 0
        while end - position >= frames.HEADER_SIZE:
            high, low, kind, flags, stream_id = struct.unpack_from(">BHBBL", self._buffer, position)
            body = position + frames.HEADER_SIZE
            following = body + (high << 16 | low)
            if following > end:
                break
            if kind == frames.DATA:
                self.received += following - body
                self._owed += following - body
            else:
                self._take(kind, flags, stream_id, bytes(self._view[body:following]))
            position = following
        self._filled = end - position
        self._view[: self._filled] = self._view[position:end]
        self._return_credit()

    def _return_credit(self) -> None:
        if self._owed >= CREDIT_AT and self.status is None:
            self.send(frames.window_update(0, self._owed) + frames.window_update(1, self._owed))
            self._owed = 0

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        match kind:
            case frames.SETTINGS if not flags & frames.ACK:
                self._take_settings(payload)
                self.send(frames.frame(frames.SETTINGS, frames.ACK, 0))
            case frames.PING if not flags & frames.ACK:
                self.send(frames.frame(frames.PING, frames.ACK, 0, payload))
            case frames.WINDOW_UPDATE if stream_id:
                self._stream_window += int.from_bytes(payload, "big")
            case frames.WINDOW_UPDATE:
                self._connection_window += int.from_bytes(payload, "big")
            case frames.HEADERS:
                fields = dict(self._decoder.decode(payload, raw=True))
                if flags & frames.END_STREAM:
                    self.status = fields.get(b"grpc-status", b"missing")
            case frames.RST_STREAM | frames.GOAWAY:
                raise ConnectionError(f"the server gave up: frame {kind}, {payload!r}")
            case _:
                pass

    def _take_settings(self, payload: bytes) -> None:
        self.settled = True
        for number, value in struct.iter_unpack(">HL", payload):
            if number == frames.INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._initial_window
                self._initial_window = value


def call_out(wire: Wire, size: int) -> None:
    """Let the server send ``size`` bytes of messages."""
    request = frames.message(size.to_bytes(8, "big"))
    wire.send(frames.frame(frames.DATA, frames.END_STREAM, 1, request))
    while wire.status is None:
        wire.receive()


def call_in(wire: Wire, size: int) -> None:
    """Send ``size`` bytes of messages; the server answers with one."""
    pieces = frames.message_frames(1, MESSAGE) * MESSAGES_AT_ONCE
    block = memoryview(b"".join(pieces))
    ends = [0, *accumulate(map(len, pieces))]
    costs = [0, *accumulate(len(piece) - frames.HEADER_SIZE for piece in pieces)]
    first, left = 0, size // len(MESSAGE) * (costs[-1] // MESSAGES_AT_ONCE)
    while left:
        last = first
        while last < len(pieces) and costs[last + 1] - costs[first] <= min(wire.window, left):
            last += 1
        payload = costs[last] - costs[first]
        if payload:
            wire.send(block[ends[first] : ends[last]], payload=payload)
            left -= payload
            first = last % len(pieces)
        wire.receive(wait=not payload)
    wire.send(frames.frame(frames.DATA, frames.END_STREAM, 1))
    while wire.status is None:
        wire.receive()


def main() -> None:
    """Make the call that the command line asks for."""
    path, direction, size = sys.argv[1:]
    wire = Wire(path)
    wire.send(frames.opening(f"/bench.Stream/{direction.capitalize()}", window=WINDOW))
    while not wire.settled:
        wire.receive()
    wall, cpu = time.perf_counter(), time.process_time()
    (call_in if direction == "in" else call_out)(wire, int(size))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert wire.status == b"0", f"the call ended with status {wire.status!r}"
    assert direction == "in" or wire.received >= int(size), f"only {wire.received} bytes arrived"
    json.dump({"seconds": wall, "cpu": cpu}, sys.stdout)


main()
