"""Ring "crowd": many builds at once in one process, against one daemon; each exports a file of its own."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks import trees
from benchmarks.caches import empty_cache
from benchmarks.children import run_program
from benchmarks.results import OURS

if TYPE_CHECKING:
    from benchmarks.workbench import Workbench

__all__ = ["run"]

RING: Final = "crowd"
DOCKERFILE: Final = "FROM scratch\nARG N\nCOPY n$N /n\n"


def run(bench: Workbench) -> None:
    """Measure how long the builds take, from their common start to the end of each."""
    count = bench.scale.builds_at_once
    context = trees.context_of_text(bench.folder / "crowd", DOCKERFILE)
    for number in range(count):
        (context / f"n{number}").write_text(f"{number}\n")
    bench.daemon()
    address = bench.address
    measurement = bench.results.new(RING, f"{count} builds at once", OURS, amount=count)
    for number in range(bench.scale.runs):
        bench.check_time()
        empty_cache(address)
        out = bench.folder / f"crowd-{number}"
        arguments = (address, str(context), str(count), str(out))
        done = run_program("crowd", *arguments, patience=bench.scale.run_patience)
        seconds: list[float] = done["seconds"]
        measurement.add({"median s": median(seconds), "slowest s": max(seconds), "CPU s": done["cpu"]})
    slowest, middle = measurement.median("slowest s"), measurement.median("median s")
    spread = slowest / middle if slowest and middle else None
    bench.results.state(f"{measurement.work}: slowest, to the median", spread, "x", "at most 2")
