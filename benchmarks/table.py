"""Results as aligned text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.results import Comparison, Measurement, Results

__all__ = ["comparison_table", "ring_table", "tables"]


def tables(results: Results) -> str:
    """All tables: one a ring, then the targets."""
    rings = dict.fromkeys(measurement.ring for measurement in results.measurements)
    parts = [ring_table(ring, [m for m in results.measurements if m.ring == ring]) for ring in rings]
    if results.comparisons:
        parts.append(comparison_table(results.comparisons))
    return "\n".join(parts)


def ring_table(ring: str, measurements: Sequence[Measurement]) -> str:
    """One line a work and contestant, medians of all runs."""
    metrics = list(dict.fromkeys(metric for measurement in measurements for metric in measurement.samples))
    rows = [["work", "who", *metrics, "runs", ""]]
    work = None
    for measurement in measurements:
        medians = (figure(measurement.median(metric)) for metric in metrics)
        shown = measurement.work if measurement.work != work else ""
        rows.append([shown, measurement.who, *medians, str(measurement.runs or "-"), measurement.note])
        work = measurement.work
    return f"{ring}\n{_aligned(rows, numbers=range(2, len(metrics) + 3))}"


def comparison_table(comparisons: Iterable[Comparison]) -> str:
    """Values beside their targets."""
    rows = [["what", "value", "", "target"]]
    rows += [[c.what, figure(c.value), c.unit, c.target] for c in comparisons]
    return f"targets\n{_aligned(rows, numbers=[1])}"


def figure(value: float | None) -> str:
    """Three significant digits, ``-`` for what was not measured."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:,.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]], *, numbers: Iterable[int]) -> str:
    right = set(numbers)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "".join(f"  {line.rstrip()}\n" for line in lines)
