"""What a running build reports, as values.

The names are BuildKit's: a *vertex* is one step of the build graph. Events arrive in the daemon's order;
a vertex is reported again, whole, each time it changes.

All times are integers: nanoseconds since the Unix epoch, on the daemon's clock. As text, which ``print`` shows, an
event is a line for people, or the output of a step as it is.

Source: moby/buildkit:api/services/control/control.proto (StatusResponse and its parts), solver/pb/ops.proto
(ProgressGroup, SourceInfo, Range).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from buildkit_session.printable import printable

if TYPE_CHECKING:
    from buildkit_session.source import SourceFile, SourceRange

__all__ = [
    "EngineText",
    "ImageId",
    "ProgressEvent",
    "ProgressGroup",
    "Vertex",
    "VertexLog",
    "VertexStatus",
    "VertexWarning",
]


@dataclass(frozen=True, slots=True)
class ProgressGroup:
    """Steps that are shown as one step called ``name``. Weak members alone do not make it visible."""

    id: str
    name: str
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Vertex:
    """A full snapshot of one step; it replaces the earlier snapshot of the same digest.

    A step that runs again is reported with a new ``started``. ``error`` may be withdrawn by a later snapshot:
    only the result of the build decides whether it failed.
    """

    digest: str
    name: str
    inputs: tuple[str, ...] = ()
    cached: bool = False
    started: int | None = None
    completed: int | None = None
    error: str = ""
    progress_group: ProgressGroup | None = None

    def __str__(self) -> str:
        return printable(f"{self.name}: {self._state()}")

    def _state(self) -> str:
        if self.error:
            return f"error: {self.error}"
        if self.cached:
            return "cached"
        if self.started is None:
            return "waiting"
        return "started" if self.completed is None else f"done {(self.completed - self.started) / 10**9:.1f}s"


@dataclass(frozen=True, slots=True)
class VertexStatus:
    """Progress inside a step. ``id`` is the visible text; ``current`` and ``total`` are bytes, total 0 is unknown."""

    id: str
    vertex: str
    name: str
    current: int
    total: int
    timestamp: int | None = None
    started: int | None = None
    completed: int | None = None

    def __str__(self) -> str:
        counted = f"{self.current:,} of {self.total:,}" if self.total else f"{self.current:,}" if self.current else ""
        done = "done" if self.completed is not None else ""
        return printable(": ".join(filter(None, (self.id.rstrip(":"), f"{counted} bytes" if counted else "", done))))


@dataclass(frozen=True, slots=True)
class VertexLog:
    """Raw output of a step, cut anywhere; ``stream`` is 1 for standard output, 2 for standard error."""

    vertex: str
    timestamp: int | None
    stream: int
    data: bytes

    def __str__(self) -> str:
        return self.data.decode(errors="replace").removesuffix("\n")


@dataclass(frozen=True, slots=True)
class VertexWarning:
    """A warning of the build frontend, such as a lint rule; ``ranges`` are the places in ``source`` that it means."""

    vertex: str
    level: int
    short: str
    detail: tuple[str, ...] = ()
    url: str = ""
    source: SourceFile | None = None
    ranges: tuple[SourceRange, ...] = ()

    def __str__(self) -> str:
        return printable(f"warning: {self.short}")


@dataclass(frozen=True, slots=True)
class ImageId:
    """The image the Engine wrote: ``sha256:...``, a config digest or (containerd image store) a manifest digest."""

    id: str

    def __str__(self) -> str:
        return printable(f"image {self.id}")


@dataclass(frozen=True, slots=True)
class EngineText:
    """A line of the Engine outside BuildKit's own progress, such as ``Successfully tagged``."""

    text: str

    def __str__(self) -> str:
        return self.text.removesuffix("\n")


ProgressEvent: TypeAlias = Vertex | VertexStatus | VertexLog | VertexWarning | ImageId | EngineText
