"""Ring "startup": what a program pays for ``import buildkit_session``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.children import run_program
from benchmarks.results import OURS

if TYPE_CHECKING:
    from benchmarks.workbench import Workbench

__all__ = ["run"]

RING: Final = "startup"
TIME: Final = "wall ms"


def run(bench: Workbench) -> None:
    """Import the package in fresh processes; the first time, for Python's cache of compiled modules, is not counted."""
    measurement = bench.results.new(RING, work := "import buildkit_session", OURS)
    run_program("importing", patience=bench.scale.run_patience)
    for _ in range(bench.scale.runs):
        measurement.add({TIME: 1000 * run_program("importing", patience=bench.scale.run_patience)["seconds"]})
    bench.results.state(work, measurement.median(TIME), "ms", "under 150")
