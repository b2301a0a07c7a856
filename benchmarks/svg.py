"""Line charts as SVG, drawn by hand: a plotting library would be the heaviest thing that the benchmark installs.

One file serves light and dark pages: the background is transparent, and every colour has contrast enough on both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["COLOURS", "Line", "Panel", "chart"]

COLOURS: Final = ("#3f83f8", "#e0762b", "#2f9e5a", "#a860e0", "#c2880a", "#d9487d")
INK: Final = "#7d8590"

# All in pixels. A panel is a box with room at its left and below for the labels of its axes.
PLOT_WIDTH: Final = 226
PLOT_HEIGHT: Final = 150
LEFT: Final = 52
RIGHT: Final = 16
ABOVE: Final = 30
BELOW: Final = 46
HEAD: Final = 64
CHARACTER: Final = 6.6
MOST_TICKS: Final = 6


@dataclass(frozen=True, slots=True)
class Line:
    """Points joined by a line; of those with the same label the legend shows the first."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    dashed: bool = False
    marked: bool = True


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes.

    Attributes:
        x_ticks: where the x axis is labelled, and how; chosen by itself where there are none.
        log_y: whether the y axis is logarithmic; otherwise it begins at 0.
    """

    title: str
    lines: Sequence[Line]
    x_label: str
    y_label: str
    x_ticks: Sequence[tuple[float, str]] = ()
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class _Axis:
    """A range of values on a range of pixels."""

    low: float
    high: float
    start: float
    length: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (map(math.log10, (self.low, self.high, value))) if self.log else (self.low, self.high, value)
        return self.start + self.length * (value - low) / (high - low)


def chart(title: str, panels: Sequence[Panel], *, columns: int = 3) -> str:
    """Draw panels side by side under one title and one legend."""
    columns = min(columns, len(panels))
    width = columns * (LEFT + PLOT_WIDTH + RIGHT)
    height = HEAD + math.ceil(len(panels) / columns) * (ABOVE + PLOT_HEIGHT + BELOW)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" fill="{INK}">',
        _text(12, 22, title, size=16, weight="bold"),
        *_legend([line for panel in panels for line in panel.lines]),
    ]
    for index, panel in enumerate(panels):
        x = index % columns * (LEFT + PLOT_WIDTH + RIGHT) + LEFT
        y = HEAD + index // columns * (ABOVE + PLOT_HEIGHT + BELOW) + ABOVE
        parts += _panel(panel, x, y)
    return "\n".join([*parts, "</svg>\n"])


def _legend(lines: Sequence[Line]) -> Iterator[str]:
    first: dict[str, Line] = {}
    for line in lines:
        first.setdefault(line.label, line)
    x = 12.0
    for line in first.values():
        yield f'<path d="M{x:.0f} 44h24" {_stroke(line)}/>'
        yield _text(x + 30, 48, line.label)
        x += 48 + CHARACTER * len(line.label)


def _panel(panel: Panel, x: float, y: float) -> Iterator[str]:
    across, up = _axes(panel, x, y)
    middle = x + PLOT_WIDTH / 2
    yield _text(middle, y - 10, panel.title, anchor="middle", weight="bold")
    for value, label in _y_ticks(up):
        yield f'<path d="M{x} {up.at(value):.1f}h{PLOT_WIDTH}" stroke="{INK}" stroke-opacity="0.25"/>'
        yield _text(x - 6, up.at(value) + 4, label, anchor="end", size=11)
    for value, label in panel.x_ticks or [(tick, _short(tick)) for tick in _nice_ticks(across.low, across.high)]:
        yield f'<path d="M{across.at(value):.1f} {y + PLOT_HEIGHT}v4" stroke="{INK}"/>'
        yield _text(across.at(value), y + PLOT_HEIGHT + 16, label, anchor="middle", size=11)
    yield f'<path d="M{x} {y}v{PLOT_HEIGHT}h{PLOT_WIDTH}" fill="none" stroke="{INK}"/>'
    yield _text(middle, y + PLOT_HEIGHT + 34, panel.x_label, anchor="middle")
    turn = f'transform="rotate(-90 {x - 38} {y + PLOT_HEIGHT / 2})"'
    yield _text(x - 38, y + PLOT_HEIGHT / 2, panel.y_label, anchor="middle", more=turn)
    for line in panel.lines:
        yield from _line(line, across, up)


def _axes(panel: Panel, x: float, y: float) -> tuple[_Axis, _Axis]:
    points = [point for line in panel.lines for point in line.points]
    marks = [value for value, _ in panel.x_ticks] + [value for value, _ in points]
    values = [value for _, value in points]
    low_x = min(marks) if panel.log_y else 0.0
    across = _Axis(low_x, max(marks) or 1.0, x, PLOT_WIDTH)
    if panel.log_y:
        low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
        return across, _Axis(low, max(high, 10 * low), y + PLOT_HEIGHT, -PLOT_HEIGHT, log=True)
    return across, _Axis(0.0, 1.08 * max(values) or 1.0, y + PLOT_HEIGHT, -PLOT_HEIGHT)


def _line(line: Line, across: _Axis, up: _Axis) -> Iterator[str]:
    places = [(across.at(x), up.at(y)) for x, y in line.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield f'<path d="M{path}" {_stroke(line)}/>'
    if line.marked:
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.colour}"/>' for x, y in places)


def _stroke(line: Line) -> str:
    dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
    return f'fill="none" stroke="{line.colour}" stroke-width="2" stroke-linejoin="round"{dashes}'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: str = "", more: str = ""
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{bold} {more}>{escape(text)}</text>'


def _y_ticks(axis: _Axis) -> list[tuple[float, str]]:
    if not axis.log:
        return [(tick, _short(tick)) for tick in _nice_ticks(axis.low, axis.high)]
    first, last = round(math.log10(axis.low)), round(math.log10(axis.high))
    return [(10.0**power, _short(10.0**power)) for power in range(first, last + 1)]


def _nice_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at most six of them."""
    magnitude = 10 ** math.floor(math.log10((high - low) / MOST_TICKS))
    step = next(s for s in (magnitude, 2 * magnitude, 5 * magnitude, 10 * magnitude) if (high - low) / s < MOST_TICKS)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:.6g}"
