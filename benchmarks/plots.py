"""Which plots are drawn of the results, for the README: time by size and by file count, memory, lateness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.clients import BOLLARD, BUILDX
from benchmarks.lateness import PERCENTILES
from benchmarks.loads import WAYS, Load, Way, work_name
from benchmarks.results import CPU, OURS, WALL
from benchmarks.rings import builds, loop
from benchmarks.scale import MIB
from benchmarks.svg import COLOURS, Line, Panel, chart

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from benchmarks.results import Measurement, Results

__all__ = ["draw_all"]

CLIENTS: Final = dict(zip((OURS, BUILDX, BOLLARD), COLOURS, strict=False))
LEAST_LATENESS: Final = 0.01
"""Milliseconds; less has no place on a logarithmic axis."""


def draw_all(results: Results, folder: Path) -> None:
    """Write the plots for which there are results."""
    plots = {
        "time-by-size": ("Time by size of one file: wall-clock, and CPU dashed", _times(results, in_one_file=True)),
        "time-by-files": (
            "Time by number of files of 0 to 4 KiB: wall-clock, and CPU dashed",
            _times(results, in_one_file=False),
        ),
        "memory": ("Memory of the client over time", _memory(results)),
        "lateness": ("Lateness of a task that wakes every millisecond", _lateness(results)),
    }
    for name, (title, panels) in plots.items():
        if panels:
            (folder / f"{name}.svg").write_text(chart(title, panels))


def _times(results: Results, *, in_one_file: bool) -> list[Panel]:
    """One panel a way: wall-clock and CPU of each client by the amount that was moved."""
    unit, label = (MIB, "MiB") if in_one_file else (1, "files")
    panels = []
    for way in WAYS:
        moved = _moved(results, way, in_one_file=in_one_file)
        lines = [
            Line(client, points, colour, dashed=metric == CPU)
            for client, colour in CLIENTS.items()
            for metric in (WALL, CPU)
            if (points := sorted(_points(moved, client, metric, unit)))
        ]
        if lines:
            panels.append(Panel(way.name, lines, label, "seconds"))
    return panels


def _points(moved: Iterable[Measurement], who: str, metric: str, unit: int) -> Iterator[tuple[float, float]]:
    for found in moved:
        if found.who == who and found.amount is not None and (seconds := found.median(metric)) is not None:
            yield found.amount / unit, seconds


def _memory(results: Results) -> list[Panel]:
    """One panel a way and kind of load, of the largest load there is."""
    panels = []
    for in_one_file in (True, False):
        for way in WAYS:
            moved = _moved(results, way, in_one_file=in_one_file)
            largest = max(moved, key=lambda found: found.amount or 0, default=None)
            lines = [
                Line(trace.who, trace.points, CLIENTS[trace.who], marked=False)
                for trace in results.traces
                if largest and trace.work == largest.work and trace.points
            ]
            if largest and lines:
                panels.append(Panel(largest.work, lines, "seconds", "MiB resident"))
    return panels


def _lateness(results: Results) -> list[Panel]:
    """One panel a work: the percentiles of the lateness, ours beside that of an idle loop."""
    ticks = [(float(place), name.removesuffix(" ms")) for place, name in enumerate(PERCENTILES)]
    panels: dict[str, list[Line]] = {}
    for found in results.measurements:
        if found.ring == loop.RING and found.samples:
            values = [max(found.median(metric) or 0.0, LEAST_LATENESS) for metric in PERCENTILES]
            colour = COLOURS[0] if found.who == OURS else COLOURS[1]
            line = Line(found.who, list(enumerate(values)), colour, dashed=found.who != OURS)
            panels.setdefault(found.work, []).append(line)
    return [Panel(work, lines, "percentile", "ms", ticks, log_y=True) for work, lines in panels.items()]


def _moved(results: Results, way: Way, *, in_one_file: bool) -> list[Measurement]:
    return [
        found
        for found in results.measurements
        if found.ring == builds.RING
        and found.amount is not None
        and found.work == work_name(way, Load(found.amount, in_one_file=in_one_file))
    ]
