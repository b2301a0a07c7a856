"""Places in a source file, such as a Dockerfile, as BuildKit names them.

Source: moby/buildkit:solver/pb/ops.proto (SourceInfo, Range, Position).
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Position", "SourceExcerpt", "SourceFile", "SourceRange"]


@dataclass(frozen=True, slots=True)
class Position:
    """Attributes: ``line`` counts from 1, ``character`` from 0."""

    line: int
    character: int = 0


@dataclass(frozen=True, slots=True)
class SourceRange:
    """From ``start`` to ``end``, whose line belongs to it."""

    start: Position
    end: Position


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A source file as the daemon saw it.

    Attributes:
        filename: as the frontend calls it, such as ``Dockerfile``.
        data: all of it.
        language: such as ``Dockerfile``.
    """

    filename: str
    data: bytes = field(default=b"", repr=False)
    language: str = ""


@dataclass(frozen=True, slots=True)
class SourceExcerpt:
    """A file and what matters in it, such as the instruction that failed; :func:`.excerpt` shows it.

    Attributes:
        file: the whole file.
        ranges: in the order of the daemon; empty when it names none.
    """

    file: SourceFile
    ranges: tuple[SourceRange, ...] = ()
