"""What a running build reports, as values.

The names are BuildKit's: a *vertex* is one step of the build graph. Events arrive in the daemon's order;
a vertex is reported again, whole, each time it changes.

All times are integers: nanoseconds since the Unix epoch, on the daemon's clock.

Source: moby/buildkit:api/services/control/control.proto (StatusResponse and its parts), solver/pb/ops.proto
(ProgressGroup, SourceInfo, Range).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

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


@dataclass(frozen=True, slots=True)
class VertexLog:
    """Raw output of a step, cut anywhere; ``stream`` is 1 for standard output, 2 for standard error."""

    vertex: str
    timestamp: int | None
    stream: int
    data: bytes


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


@dataclass(frozen=True, slots=True)
class ImageId:
    """The image the Engine wrote: ``sha256:...``, a config digest or (containerd image store) a manifest digest."""

    id: str


@dataclass(frozen=True, slots=True)
class EngineText:
    """A line of the Engine outside BuildKit's own progress, such as ``Successfully tagged``."""

    text: str


ProgressEvent: TypeAlias = Vertex | VertexStatus | VertexLog | VertexWarning | ImageId | EngineText
