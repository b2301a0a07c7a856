"""Files and places in them, in the JSON of errors and of answers to calls.

Source: moby/buildkit:solver/pb/ops.proto (SourceInfo, Location, Range), as Go's encoding/json writes them.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Final

from buildkit_session.engine.json_values import as_list, as_number, as_object, as_text
from buildkit_session.source import Position, SourceFile, SourceRange

__all__ = ["read_ranges", "read_source"]

MAX_RANGES: Final = 10_000
"""Read of one place; the Dockerfile frontend names each line of an instruction alone."""


def read_source(value: object) -> SourceFile:
    """Read a ``SourceInfo``.

    Raises:
        TypeError: it is something else.
        ValueError: its data is not base64.
    """
    info = as_object(value)
    data = b64decode(as_text(info.get("data")), validate=True)
    return SourceFile(as_text(info.get("filename")), data, as_text(info.get("language")))


def read_ranges(value: object) -> tuple[SourceRange, ...]:
    """Read a list of ``Range``.

    Raises:
        TypeError: it is something else.
        ValueError: a line does not fit into 32 bits.
    """
    return tuple(map(_range, as_list(value)[:MAX_RANGES]))


def _range(value: object) -> SourceRange:
    range_ = as_object(value)
    return SourceRange(_position(range_.get("start")), _position(range_.get("end")))


def _position(value: object) -> Position:
    position = as_object(value)
    return Position(as_number(position.get("line")), as_number(position.get("character")))
