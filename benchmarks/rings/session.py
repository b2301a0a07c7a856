"""Ring "session": a server in one process, one stream of 32 KiB messages over a Unix socket, a cheap client in another.

The same client, the same messages and windows for every server; ``serve_plain`` is the ceiling, without HTTP/2.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.children import ProgramError, Server, run_program, serving
from benchmarks.results import OURS, RATE, Measurement
from benchmarks.scale import GIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.workbench import Workbench

__all__ = ["run"]

RING: Final = "session"
SERVER_CPU: Final = "server CPU s/GiB"
CLIENT_CPU: Final = "client CPU s/GiB"

GRPCIO: Final = "grpcio (asyncio)"
GRPCLIB: Final = "grpclib"
PLAIN: Final = "plain asyncio"
TARGETS: Final = {GRPCIO: "at least 3", GRPCLIB: "at least 4", PLAIN: "at least 0.3"}


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server, its options, and who talks to it."""

    name: str
    server: tuple[str, ...]
    driver: str = "driver"
    times: int = 1  # so many times the bytes, to take as long as the others


CONTESTANTS: Final = (
    Contestant(OURS, ("serve_ours",)),
    Contestant(f"{OURS}, uvloop", ("serve_ours", "--uvloop")),
    Contestant(GRPCIO, ("serve_grpcio",)),
    Contestant(GRPCLIB, ("serve_grpclib",)),
    Contestant(f"{GRPCLIB}, uvloop", ("serve_grpclib", "--uvloop")),
    Contestant(PLAIN, ("serve_plain",), "plain_driver", times=4),
    Contestant(f"{PLAIN}, uvloop", ("serve_plain", "--uvloop"), "plain_driver", times=4),
)


def run(bench: Workbench) -> None:
    """Measure both directions, the servers in turn."""
    works = {"in": "in, 32 KiB messages", "out": "out, 32 KiB messages"}
    with ExitStack() as stack:
        servers = _start(bench, stack, works.values())
        for direction, work in works.items():
            bench.say(work)
            _measure(bench, direction, work, servers)
            for other, target in TARGETS.items():
                bench.results.compare(RING, work, RATE, other, target)


def _start(bench: Workbench, stack: ExitStack, works: Iterable[str]) -> dict[Contestant, Server]:
    servers = {}
    for contestant in CONTESTANTS:
        try:
            servers[contestant] = stack.enter_context(serving(*contestant.server))
        except ProgramError as reason:
            for work in works:
                bench.results.not_run(RING, work, contestant.name, reason)
    return servers


def _measure(bench: Workbench, direction: str, work: str, servers: dict[Contestant, Server]) -> None:
    measurements = {contestant: bench.results.new(RING, work, contestant.name) for contestant in servers}
    for _ in range(bench.scale.runs):
        for contestant, server in servers.items():
            size = bench.scale.session_bytes * contestant.times
            _call(measurements[contestant], contestant, server, (direction, size), bench.scale.run_patience)


def _call(
    measurement: Measurement, contestant: Contestant, server: Server, order: tuple[str, int], patience: float
) -> None:
    if measurement.note:
        return
    direction, size = order
    try:
        client = run_program(contestant.driver, str(server.path), direction, str(size), patience=patience)
        cpu = server.report()["cpu"]
    except ProgramError as reason:
        measurement.remark(f"not run: {reason}")
        return
    measurement.add(
        {RATE: size / 1e6 / client["seconds"], SERVER_CPU: cpu * GIB / size, CLIENT_CPU: client["cpu"] * GIB / size}
    )
