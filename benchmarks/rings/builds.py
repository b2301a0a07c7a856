"""Ring "builds": whole builds by the command line clients, one after the other, on the same daemon.

Sending: the daemon's build cache is emptied before every build and shown to be empty, so all of the context must
travel. Receiving: an image that is there is exported to a new place, and only a Dockerfile is sent. Contexts, exports
and the daemon's data are on one file system.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from benchmarks import trees
from benchmarks.caches import empty_cache
from benchmarks.children import HungError, ProgramError, Timing, timed
from benchmarks.clients import BUILDX, BuildClient, build_clients
from benchmarks.loads import LOCAL, SEND, WAYS, Load, Material, Way, patience_after, prepared, start_over, work_name
from benchmarks.results import CPU, OURS, PEAK, WALL, Trace
from benchmarks.workbench import OutOfTimeError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from benchmarks.workbench import Workbench

__all__ = ["RING", "run"]

RING: Final = "builds"
NO_OP: Final = "no-op cached build"

MOST_HANGS: Final = 3
"""So often a client may hang before it is left out of a work; and of larger ones, if it never got through."""


def run(bench: Workbench) -> None:
    """Measure builds: the headline loads first, as the time may run out, and the largest last."""
    *small_sizes, size = [Load(amount, in_one_file=True) for amount in bench.scale.file_sizes]
    *small_counts, count, most = [Load(amount, in_one_file=False) for amount in bench.scale.file_counts]
    with ExitStack() as stack:
        clients, missing = build_clients(bench, stack)
        for name, reason in missing.items():
            bench.results.not_run(RING, "all", name, reason)
        try:
            _do_nothing(bench, clients)
            stuck = _move(bench, clients, size, WAYS, bench.scale.runs)
            stuck |= _move(bench, clients, count, WAYS, bench.scale.runs)
            for load in (*small_sizes, *small_counts):
                _move(bench, clients, load, WAYS, bench.scale.runs_of_others)
            _move(bench, clients, most, (SEND, LOCAL), bench.scale.runs_of_others, without=stuck)
        except OutOfTimeError as reason:
            bench.results.not_run(RING, "the rest", "all", reason)
    _compare(bench, size, count, most)


def _do_nothing(bench: Workbench, clients: list[BuildClient]) -> None:
    """A build whose steps are all cached and whose result is one small file."""
    context = trees.context_of_text(bench.folder / "no-op", "FROM scratch\nCOPY Dockerfile /\n")
    material = Material(None, full=context, bare=context)
    for client in clients:
        _build(bench, client, material, LOCAL, bench.scale.run_patience)
    _Contest(bench, clients, NO_OP, material, LOCAL).run(bench.scale.runs)


def _move(
    bench: Workbench,
    clients: list[BuildClient],
    load: Load,
    ways: Iterable[Way],
    runs: int,
    *,
    without: Container[tuple[str, Way]] = (),
) -> set[tuple[str, Way]]:
    """Move a load in all these ways; returns which client never got through in which way."""
    bench.check_time()
    stuck = set()
    with prepared(bench, clients[0], load) as material:
        for way in ways:
            work = work_name(way, load)
            excuses = {client: _excuse(client, way, without) for client in clients}
            contest = _Contest(bench, [client for client in clients if not excuses[client]], work, material, way)
            contest.run(runs)
            for client, excuse in excuses.items():
                if excuse:
                    bench.results.not_run(RING, work, client.name, excuse)
            stuck |= {(client.name, way) for client in contest.stuck()}
    return stuck


def _excuse(client: BuildClient, way: Way, without: Container[tuple[str, Way]]) -> str:
    """Why a client is not asked for a work, if it is not."""
    if way.sends and not client.sends_files:
        return "it sends no files through a session"
    return "it hung with less" if (client.name, way) in without else ""


class _Contest:
    """One work, done by the clients in turn."""

    def __init__(self, bench: Workbench, clients: list[BuildClient], work: str, material: Material, way: Way) -> None:
        self._bench = bench
        self._work = work
        self._material = material
        self._way = way
        amount = material.load.amount if material.load else None
        new = bench.results.new
        self._measurements = {client: new(RING, work, client.name, amount=amount) for client in clients}
        self._memory: dict[BuildClient, list[tuple[float, float]]] = {}
        self._hangs: Counter[BuildClient] = Counter()
        self._slowest: float | None = None

    def run(self, runs: int) -> None:
        """Go on until each client has built so often, or the time is used up; time lost to hanging does not count."""
        self._bench.say(self._work)
        end = time.monotonic() + self._bench.scale.work_patience
        for number in range(runs):
            if number and (time.monotonic() > end or self._bench.time_is_up):
                break
            for client in self._in_turn(number):
                start = time.monotonic()
                if not self._measure(client):
                    end += time.monotonic() - start
        memory = self._memory.items()
        self._bench.results.traces += [Trace(self._work, client.name, points) for client, points in memory]

    def stuck(self) -> list[BuildClient]:
        """The clients that have hung again and again and never got through."""
        found = self._measurements.items()
        return [client for client, measured in found if not measured.runs and self._hangs[client] >= MOST_HANGS]

    def _in_turn(self, number: int) -> list[BuildClient]:
        """Each goes first as often as the others; one that hangs again and again is left out."""
        clients = [client for client in self._measurements if self._hangs[client] < MOST_HANGS]
        return clients[:: 1 if number % 2 == 0 else -1]

    def _measure(self, client: BuildClient) -> bool:
        """Let a client build once; returns whether it did not hang."""
        measurement = self._measurements[client]
        if self._way.sends:
            empty_cache(self._bench.address)
        most = self._bench.scale.run_patience
        try:
            timing = _build(self._bench, client, self._material, self._way, patience_after(self._slowest, most))
        except HungError as fault:
            measurement.remark(fault)
            self._hangs[client] += 1
            start_over(self._bench, next(iter(self._measurements)), self._material)
            return False
        except ProgramError as fault:
            measurement.remark(fault)
            return True
        measurement.add({WALL: timing.wall, CPU: timing.cpu, PEAK: timing.peak})
        self._memory[client] = timing.memory
        self._slowest = max(timing.wall, self._slowest or 0.0)
        return True


def _build(bench: Workbench, client: BuildClient, material: Material, way: Way, patience: float) -> Timing:
    out = bench.folder / "out"
    out.mkdir()
    try:
        return timed(client.build(material.order(way, out)), client.environment, patience=patience)
    finally:
        shutil.rmtree(out)


def _compare(bench: Workbench, size: Load, count: Load, most: Load) -> None:
    results = bench.results
    results.compare(RING, NO_OP, WALL, BUILDX, "at most 1")
    for load, share in ((size, 0.4), (count, 0.5)):
        for way in WAYS:
            work = work_name(way, load)
            results.compare(RING, work, CPU, BUILDX, f"at most {share}")
            results.compare(RING, work, WALL, BUILDX, "at most 0.9")
    for way in (SEND, LOCAL):
        few, many = (results.median(RING, work_name(way, load), OURS, CPU) for load in (count, most))
        growth = many / few if few and many else None
        results.state(f"{way.name}: CPU, {most.name} to {count.name}", growth, "x", "at most 4.4")
    peaks = [peak for found in results.measurements if found.who == OURS for peak in found.samples.get(PEAK, ())]
    results.state("peak memory of any build", max(peaks, default=None), "MiB", "at most 64")
