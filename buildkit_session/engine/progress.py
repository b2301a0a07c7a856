"""Progress of a build as the daemon serializes it, decoded into events.

Source: moby/buildkit:api/services/control/control.proto (StatusResponse),
moby/moby:builder/builder-next/builder.go and api/server/backend/build (the JSON objects around it).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from buildkit_session.engine import status_wire
from buildkit_session.engine.events import EngineText, ImageId, ProgressEvent
from buildkit_session.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["decode_object", "decode_status", "failure_of"]


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
        return status_wire.decode(data)
    except status_wire.UnusualError:
        return _decode_unusual(data)


def _decode_unusual(data: bytes) -> list[ProgressEvent]:
    # Here, not above: it loads the schema of the whole Control API, and most builds have nothing unusual.
    from buildkit_session.engine import status_message  # noqa: PLC0415

    try:
        return status_message.decode(data)
    except ValueError as exc:  # text that is not UTF-8 as well
        msg = f"the daemon sent a progress message of {len(data)} bytes that cannot be decoded"
        raise RemoteProtocolError(msg) from exc


def _unbase64(aux: object) -> bytes:
    try:
        return base64.b64decode(aux if isinstance(aux, str) else "?", validate=True)
    except ValueError as exc:
        msg = "the Engine sent a progress object whose 'aux' is not base64"
        raise RemoteProtocolError(msg) from exc
