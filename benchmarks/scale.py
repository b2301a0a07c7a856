"""How much work the rings do: the amounts that the figures are about, or just enough to see that everything runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

__all__ = ["FULL", "GIB", "MIB", "QUICK", "Scale"]

MIB: Final = 1024**2
GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Scale:
    """Amounts of work.

    Attributes:
        runs: how often everything is measured; the median counts.
        runs_of_others: how often builds are measured that only the plots and the growth need.
        messages: encoded or decoded in one run.
        core_bytes: through the HTTP/2 state machine in one run.
        session_bytes: through a socket in one run.
        file_sizes: of the contexts with one file, in bytes, the last for the headline figures.
        file_counts: of the contexts with small files, the last but one for the headline figures; the last shows how
            the cost grows.
        builds_at_once: in one process.
        run_patience: seconds after which a client counts as hung.
        work_patience: seconds after which a work is not measured again.
        patience: seconds after which no further work is begun.
        disk_bytes: what contexts, the daemon's copies and exports take at most.
    """

    runs: int
    runs_of_others: int
    messages: int
    core_bytes: int
    session_bytes: int
    file_sizes: tuple[int, ...]
    file_counts: tuple[int, ...]
    builds_at_once: int
    run_patience: float
    work_patience: float
    patience: float
    disk_bytes: int

    def with_runs(self, runs: int) -> Scale:
        """The same amounts, measured ``runs`` times."""
        return replace(self, runs=runs)


FULL = Scale(
    runs=5,
    runs_of_others=2,
    messages=5_000,
    core_bytes=256 * MIB,
    session_bytes=256 * MIB,
    file_sizes=(16 * MIB, 256 * MIB, GIB),
    file_counts=(1_000, 10_000, 50_000, 200_000),
    builds_at_once=50,
    run_patience=150,
    work_patience=60,
    patience=780,
    disk_bytes=8 * GIB,
)

QUICK = Scale(
    runs=1,
    runs_of_others=1,
    messages=200,
    core_bytes=4 * MIB,
    session_bytes=4 * MIB,
    file_sizes=(MIB,),
    file_counts=(20, 40),
    builds_at_once=4,
    run_patience=20,
    work_patience=10,
    patience=90,
    disk_bytes=128 * MIB,
)
