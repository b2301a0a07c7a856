"""Ring "loop": how late another task on the event loop is that wakes every millisecond, while the library works hard.

Beside it the same task on a loop with nothing else to do, while ``docker buildx`` does the same build: that lateness is
the machine's own.
"""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from benchmarks.caches import empty_cache
from benchmarks.children import HungError, ProgramError, run_program, serving
from benchmarks.clients import BUILDX, build_clients
from benchmarks.loads import LOCAL, SEND, Load, Material, Way, patience_after, prepared, start_over, work_name
from benchmarks.results import OURS
from buildkit_session.testing import Unavailable

if TYPE_CHECKING:
    from benchmarks.clients import BuildClient
    from benchmarks.workbench import Workbench

__all__ = ["IDLE", "RING", "run"]

RING: Final = "loop"
IDLE: Final = f"idle loop beside {BUILDX}"


def run(bench: Workbench) -> None:
    """Measure the session alone, then builds."""
    for direction in ("in", "out"):
        _session(bench, direction)
    try:
        _builds(bench)
    except Unavailable as reason:
        bench.results.not_run(RING, "builds", OURS, reason)
    ours = [found.samples for found in bench.results.measurements if (found.ring, found.who) == (RING, OURS)]
    for metric, target in (("max ms", "at most 20"), ("p99 ms", "under 5")):
        worst = max((value for samples in ours for value in samples.get(metric, ())), default=None)
        bench.results.state(f"lateness on the event loop, {metric.split()[0]} of any work", worst, "ms", target)


def _session(bench: Workbench, direction: str) -> None:
    """The server of the session ring."""
    measurement = bench.results.new(RING, f"session {direction}, 32 KiB messages", OURS)
    size = str(4 * bench.scale.session_bytes)
    with serving("serve_ours", "--watch") as server:
        for _ in range(bench.scale.runs):
            run_program("driver", str(server.path), direction, size, patience=bench.scale.run_patience)
            measurement.add(server.report()["late"])


def _builds(bench: Workbench) -> None:
    sizes, counts = bench.scale.file_sizes, bench.scale.file_counts
    with ExitStack() as stack:
        found, missing = build_clients(bench, stack)
        clients = [client for client in found if client.name in {OURS, BUILDX}]
        if BUILDX in missing:
            bench.results.not_run(RING, "builds", IDLE, missing[BUILDX])
        for load in (Load(sizes[-1], in_one_file=True), Load(counts[-2], in_one_file=False)):
            with prepared(bench, clients[0], load) as material:
                for way in (SEND, LOCAL):
                    _build(bench, clients, material, way, work_name(way, load))


def _build(bench: Workbench, clients: list[BuildClient], material: Material, way: Way, work: str) -> None:
    bench.say(f"lateness: {work}")
    seconds: float | None = None
    for client in clients:
        bench.check_time()
        measurement = bench.results.new(RING, work, OURS if client.name == OURS else IDLE)
        if way.sends:
            empty_cache(bench.address)
        out = bench.folder / "out"
        out.mkdir()
        order = material.order(way, out)
        what = ("build", bench.address, *order) if client.name == OURS else ("command", *client.build(order))
        patience = patience_after(seconds, bench.scale.run_patience)
        start = time.monotonic()
        try:
            measurement.add(run_program("watched", *what, patience=patience, environment=client.environment)["late"])
            seconds = time.monotonic() - start
        except HungError as fault:
            measurement.remark(fault)
            start_over(bench, clients[0], material)
        except ProgramError as fault:
            measurement.remark(fault)
        finally:
            shutil.rmtree(out)
