"""Progress for programs: one JSON object per line, as buildx writes it.

An object holds steps, then statuses, logs and warnings, like the daemon's messages. Which events came in one message is
not known here; an object takes events until one comes that would have to stand before another one in it, and ends at
the latest with the refresh. So whoever reads the lines from top to bottom, and every line from left to right, meets
the events in the daemon's order. The graph that a source file was read with (``definition``) is left out.

Source: moby/buildkit:client/graph.go (SolveStatus and its parts), solver/pb/ops.proto; Go's encoding/json and
time.RFC3339Nano.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from buildkit_session.cli.display import Display
from buildkit_session.engine.events import EngineText, ImageId, Vertex, VertexLog, VertexStatus, VertexWarning
from buildkit_session.engine.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.engine.events import ProgressEvent, ProgressGroup
    from buildkit_session.errors import BuildError
    from buildkit_session.source import Position, SourceFile, SourceRange

__all__ = ["RawJsonDisplay", "warning_json"]

_Object: TypeAlias = dict[str, object]

_PARTS: Final = ("vertexes", "statuses", "logs", "warnings")


class RawJsonDisplay(Display):
    """``--progress=rawjson``; see the module."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._open: dict[str, list[_Object]] = {}  # the parts of the object that is not written yet
        self._last_part = 0

    def start(self) -> str:
        """Show nothing."""
        return ""

    def handle(self, event: ProgressEvent, /) -> None:
        """Take in one event; what is no progress of BuildKit has no place in the format."""
        match event:
            case Vertex():
                self._add(0, _vertex(event))
            case VertexStatus():
                self._add(1, _status(event))
            case VertexLog():
                self._add(2, _log(event))
            case VertexWarning():
                self._add(3, warning_json(event))
            case EngineText() | ImageId():
                pass
            case _:
                assert_never(event)

    def refresh(self, _now: float, /) -> str:
        """Show what came since the last refresh."""
        self._end_object()
        text = "".join(self._lines)
        self._lines.clear()
        return text

    def finish(self, _failure: BuildError | None, /) -> str:
        """Show what is left."""
        return self.refresh(0)

    def _add(self, part: int, item: _Object) -> None:
        if part < self._last_part:
            self._end_object()
        self._open.setdefault(_PARTS[part], []).append(item)
        self._last_part = part

    def _end_object(self) -> None:
        if self._open:
            # ASCII alone, so that neither a terminal nor a locale changes it.
            self._lines.append(json.dumps(self._open, separators=(",", ":")) + "\n")
        self._open = {}
        self._last_part = 0


def _vertex(vertex: Vertex) -> _Object:
    return _without_empty(
        {
            "digest": vertex.digest,
            "inputs": vertex.inputs,
            "name": vertex.name,
            "started": _time(vertex.started),
            "completed": _time(vertex.completed),
            "cached": vertex.cached,
            "error": vertex.error,
            "progressGroup": _group(vertex.progress_group),
        }
    )


def _group(group: ProgressGroup | None) -> _Object | None:
    return None if group is None else _without_empty({"id": group.id, "name": group.name, "weak": group.weak})


def _status(status: VertexStatus) -> _Object:
    return {
        "id": status.id,
        **_without_empty({"vertex": status.vertex, "name": status.name, "total": status.total}),
        "current": status.current,
        "timestamp": _time(status.timestamp or 0),
        **_without_empty({"started": _time(status.started), "completed": _time(status.completed)}),
    }


def _log(log: VertexLog) -> _Object:
    return {
        **_without_empty({"vertex": log.vertex, "stream": log.stream}),
        "data": _base64(log.data),
        "timestamp": _time(log.timestamp or 0),
    }


def warning_json(warning: VertexWarning) -> _Object:
    """Return a warning in the form of this display."""
    return _without_empty(
        {
            "vertex": warning.vertex,
            "level": warning.level,
            "short": _base64(warning.short.encode()),
            "detail": [_base64(line.encode()) for line in warning.detail],
            "url": warning.url,
            "sourceInfo": _source(warning.source),
            "range": [_range(place) for place in warning.ranges],
        }
    )


def _source(source: SourceFile | None) -> _Object | None:
    if source is None:
        return None
    return _without_empty({"filename": source.filename, "data": _base64(source.data), "language": source.language})


def _range(place: SourceRange) -> _Object:
    return {"start": _position(place.start), "end": _position(place.end)}


def _position(position: Position) -> _Object:
    return _without_empty({"line": position.line, "character": position.character})


def _without_empty(fields: Mapping[str, object]) -> _Object:
    """Leave out what Go calls empty. A group or a source is there even if nothing is in it."""
    return {name: value for name, value in fields.items() if value or isinstance(value, dict)}


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _time(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else format_timestamp(nanoseconds)
