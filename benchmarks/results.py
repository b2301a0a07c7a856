"""What was measured: samples, ratios beside their targets, memory over time. Plain data, made into JSON here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

__all__ = ["CPU", "OURS", "PEAK", "RATE", "WALL", "Comparison", "Measurement", "Results", "Trace"]

OURS: Final = "buildkit_session"

# What is measured, and in which unit.
WALL: Final = "wall s"
CPU: Final = "CPU s"
PEAK: Final = "peak MiB"
RATE: Final = "MB/s"


@dataclass(slots=True)
class Measurement:
    """One work done by one contestant.

    Attributes:
        ring: the part of the benchmark.
        work: what was done.
        who: did it.
        samples: for every metric the value of each run.
        amount: bytes or files that were moved, where works differ in it alone.
        note: what must be known besides; ``not run: ...`` where there are no samples.
    """

    ring: str
    work: str
    who: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    amount: int | None = None
    note: str = ""

    def add(self, values: dict[str, float]) -> None:
        """Add the values of one run."""
        for metric, value in values.items():
            self.samples.setdefault(metric, []).append(value)

    def remark(self, text: object) -> None:
        """Add to the note."""
        self.note = f"{self.note}; {text}".removeprefix("; ")

    @property
    def runs(self) -> int:
        """How often the work was done."""
        return max(map(len, self.samples.values()), default=0)

    def median(self, metric: str) -> float | None:
        """The median of all runs, ``None`` where it was not measured."""
        values = self.samples.get(metric)
        return median(values) if values else None

    def as_json(self) -> dict[str, Any]:
        """The fields, and the medians."""
        return {**asdict(self), "medians": {metric: self.median(metric) for metric in self.samples}, "runs": self.runs}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A value and what it should be; nobody is judged by it here.

    Attributes:
        what: what the value is about.
        value: a ratio or a measured value; ``None`` where one side was not measured.
        unit: of the value, ``x`` for a ratio.
        target: what it should be, for people.
    """

    what: str
    value: float | None
    unit: str
    target: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The memory of one client over time, in seconds and MiB."""

    work: str
    who: str
    points: list[tuple[float, float]]


@dataclass(slots=True)
class Results:
    """Everything that was measured."""

    measurements: list[Measurement] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)

    def new(self, ring: str, work: str, who: str, *, amount: int | None = None) -> Measurement:
        """Begin to measure a work."""
        self.measurements.append(made := Measurement(ring, work, who, amount=amount))
        return made

    def not_run(self, ring: str, work: str, who: str, reason: object) -> None:
        """Say that a contestant could not do a work."""
        self.measurements.append(Measurement(ring, work, who, note=f"not run: {_one_line(str(reason))}"))

    def find(self, ring: str, work: str, who: str) -> Measurement | None:
        """Find a measurement."""
        wanted = (ring, work, who)
        return next((found for found in self.measurements if (found.ring, found.work, found.who) == wanted), None)

    def median(self, ring: str, work: str, who: str, metric: str) -> float | None:
        """The median of a metric, ``None`` where it was not measured."""
        found = self.find(ring, work, who)
        return found.median(metric) if found else None

    def compare(self, ring: str, work: str, metric: str, other: str, target: str) -> None:
        """Set our median against the median of another contestant."""
        ours, theirs = self.median(ring, work, OURS, metric), self.median(ring, work, other, metric)
        ratio = ours / theirs if ours is not None and theirs else None
        name = metric.removesuffix(" s")
        self.comparisons.append(Comparison(f"{work}: {name}, to {other}", ratio, "x", target))

    def state(self, what: str, value: float | None, unit: str, target: str) -> None:
        """Set a value of ours against its target."""
        self.comparisons.append(Comparison(what, value, unit, target))

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON knows it."""
        return {
            "measurements": [measurement.as_json() for measurement in self.measurements],
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "traces": [asdict(trace) for trace in self.traces],
        }


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
