"""Progress of a build as the daemon serializes it, decoded into events.

Source: moby/buildkit:api/services/control/control.proto (StatusResponse),
moby/moby:builder/builder-next/builder.go and api/server/backend/build (the JSON objects around it).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from buildkit_session.engine.events import (
    EngineText,
    ImageId,
    ProgressEvent,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from buildkit_session.errors import RemoteProtocolError
from buildkit_session.grpc.wirecheck import check_wire
from buildkit_session.messages.moby.buildkit import v1 as wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.messages.nanotime import Timestamp

__all__ = ["decode_object", "decode_status", "failure_of"]

_NANOSECONDS = 1_000_000_000


def decode_object(entry: Mapping[str, object]) -> list[ProgressEvent]:
    """Turn one JSON object of the answer to ``/build`` into events; an unknown object gives none.

    Raises:
        RemoteProtocolError: a known object holds something else than it must.
    """
    aux = entry.get("aux")
    match entry.get("id"):
        case "moby.buildkit.trace":
            return decode_status(_unbase64(aux))
        case "moby.image.id" if isinstance(aux, dict) and isinstance(aux.get("ID"), str):
            return [ImageId(aux["ID"])]
    text = entry.get("stream")
    return [EngineText(text)] if isinstance(text, str) else []


def failure_of(entry: Mapping[str, object]) -> str | None:
    """Return the text of an object that says that the build failed, or ``None`` for any other object."""
    detail = entry.get("errorDetail")
    if isinstance(detail, dict) and isinstance(detail.get("message"), str) and detail["message"]:
        return str(detail["message"])
    if "errorDetail" in entry or "error" in entry:
        return str(entry.get("error") or "the Engine gave no reason")
    return None


def decode_status(data: bytes) -> list[ProgressEvent]:
    """Decode a serialized ``moby.buildkit.v1.StatusResponse``: steps first, then statuses, logs and warnings.

    Raises:
        RemoteProtocolError: the bytes are no such message.
    """
    try:
        check_wire(wire.StatusResponse, data)
        response = wire.StatusResponse.parse(data)
    except ValueError as exc:  # text that is not UTF-8 as well
        msg = f"the daemon sent a progress message of {len(data)} bytes that cannot be decoded"
        raise RemoteProtocolError(msg) from exc
    return [
        *map(_vertex, response.vertexes),
        *map(_status, response.statuses),
        *map(_log, response.logs),
        *map(_warning, response.warnings),
    ]


def _unbase64(aux: object) -> bytes:
    try:
        return base64.b64decode(aux if isinstance(aux, str) else "?", validate=True)
    except ValueError as exc:
        msg = "the Engine sent a progress object whose 'aux' is not base64"
        raise RemoteProtocolError(msg) from exc


def _vertex(vertex: wire.Vertex) -> Vertex:
    return Vertex(
        digest=vertex.digest,
        name=vertex.name,
        inputs=tuple(vertex.inputs),
        cached=vertex.cached,
        started=_nanoseconds(vertex.started),
        completed=_nanoseconds(vertex.completed),
        error=vertex.error,
    )


def _status(status: wire.VertexStatus) -> VertexStatus:
    return VertexStatus(
        id=status.id,
        vertex=status.vertex,
        name=status.name,
        current=status.current,
        total=status.total,
        timestamp=_nanoseconds(status.timestamp),
        started=_nanoseconds(status.started),
        completed=_nanoseconds(status.completed),
    )


def _log(log: wire.VertexLog) -> VertexLog:
    return VertexLog(vertex=log.vertex, timestamp=_nanoseconds(log.timestamp), stream=log.stream, data=log.msg)


def _warning(warning: wire.VertexWarning) -> VertexWarning:
    return VertexWarning(
        vertex=warning.vertex,
        level=warning.level,
        short=warning.short.decode("utf-8", "replace"),
        detail=tuple(line.decode("utf-8", "replace") for line in warning.detail),
        url=warning.url,
    )


def _nanoseconds(time: Timestamp | None) -> int | None:
    return None if time is None else time.seconds * _NANOSECONDS + time.nanos
