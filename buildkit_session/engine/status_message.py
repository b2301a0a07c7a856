"""Progress messages by way of the generated schema: any that the schema allows, and the judge of all others.

Loading this module is slow, see :mod:`buildkit_session.engine.status_wire`.

Source: moby/buildkit:api/services/control/control.proto (StatusResponse).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_session.engine.events import (
    ProgressEvent,
    ProgressGroup,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from buildkit_session.engine.timestamps import nanoseconds
from buildkit_session.grpc.wirecheck import check_wire
from buildkit_session.messages.moby.buildkit import v1 as wire
from buildkit_session.source import Position, SourceFile, SourceRange

if TYPE_CHECKING:
    from buildkit_session.messages import pb

__all__ = ["decode"]


def decode(data: bytes) -> list[ProgressEvent]:
    """Decode a serialized ``moby.buildkit.v1.StatusResponse``: steps first, then statuses, logs and warnings.

    Raises:
        ValueError: the bytes are no such message.
    """
    check_wire(wire.StatusResponse, data)
    response = wire.StatusResponse.parse(data)
    return [
        *map(_vertex, response.vertexes),
        *map(_status, response.statuses),
        *map(_log, response.logs),
        *map(_warning, response.warnings),
    ]


def _vertex(vertex: wire.Vertex) -> Vertex:
    return Vertex(
        digest=vertex.digest,
        name=vertex.name,
        inputs=tuple(vertex.inputs),
        cached=vertex.cached,
        started=nanoseconds(vertex.started),
        completed=nanoseconds(vertex.completed),
        error=vertex.error,
        progress_group=_group(vertex.progress_group),
    )


def _group(group: pb.ProgressGroup | None) -> ProgressGroup | None:
    return None if group is None else ProgressGroup(id=group.id, name=group.name, weak=group.weak)


def _status(status: wire.VertexStatus) -> VertexStatus:
    return VertexStatus(
        id=status.id,
        vertex=status.vertex,
        name=status.name,
        current=status.current,
        total=status.total,
        timestamp=nanoseconds(status.timestamp),
        started=nanoseconds(status.started),
        completed=nanoseconds(status.completed),
    )


def _log(log: wire.VertexLog) -> VertexLog:
    return VertexLog(vertex=log.vertex, timestamp=nanoseconds(log.timestamp), stream=log.stream, data=log.msg)


def _warning(warning: wire.VertexWarning) -> VertexWarning:
    return VertexWarning(
        vertex=warning.vertex,
        level=warning.level,
        short=warning.short.decode("utf-8", "replace"),
        detail=tuple(line.decode("utf-8", "replace") for line in warning.detail),
        url=warning.url,
        source=_source(warning.info),
        ranges=tuple(SourceRange(_position(place.start), _position(place.end)) for place in warning.ranges),
    )


def _source(info: pb.SourceInfo | None) -> SourceFile | None:
    # The graph that the file was read with comes along as well; it is of no use here.
    return None if info is None else SourceFile(info.filename, info.data, info.language)


def _position(position: pb.Position | None) -> Position:
    return Position(0) if position is None else Position(position.line, position.character)
