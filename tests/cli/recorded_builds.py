"""Builds recorded with ``docker buildx build --progress=rawjson`` (buildx 0.29.1, Docker 28.5.2), as our events.

``parallel``: two RUN steps side by side, one that ends without a line end, and one lint warning. ``cached``: the same
again. ``failing``: a RUN step that prints twelve lines, the last not UTF-8, and exits with 3. Digests are shortened,
inputs and source texts dropped.
"""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit_session.engine.events import (
    ProgressEvent,
    ProgressGroup,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from buildkit_session.source import Position, SourceFile, SourceRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.cli.display import Display

_FOLDER = Path(__file__).parent / "recordings"


def recorded(name: str) -> Iterator[ProgressEvent]:
    """Read one recording."""
    for line in (_FOLDER / f"{name}.jsonl").read_text().splitlines():
        yield from events_of(json.loads(line))


def replay(display: Display, name: str) -> str:
    """Show a recording as if it happened now, with a repaint whenever a tenth of a second has passed."""
    parts = [display.start()]
    painted = 0.0
    for event in recorded(name):
        display.handle(event)
        now = _seconds(event)
        painted = painted or now
        if now - painted >= 0.1:
            parts.append(display.refresh(now))
            painted = now
    parts.append(display.finish(None))
    return "".join(parts)


def events_of(message: dict[str, Any]) -> Iterator[ProgressEvent]:
    """Read one object of ``--progress=rawjson``."""
    for item in message.get("vertexes", ()):
        times = (_time(item.get("started")), _time(item.get("completed")))
        yield Vertex(
            item.get("digest", ""),
            item.get("name", ""),
            tuple(item.get("inputs", ())),
            item.get("cached", False),
            *times,
            item.get("error", ""),
            _group(item.get("progressGroup")),
        )
    for item in message.get("statuses", ()):
        amounts = (item["current"], item.get("total", 0))
        times3 = (_time(item["timestamp"]), _time(item.get("started")), _time(item.get("completed")))
        yield VertexStatus(item["id"], item.get("vertex", ""), item.get("name", ""), *amounts, *times3)
    for item in message.get("logs", ()):
        when, stream = _time(item["timestamp"]), item.get("stream", 0)
        yield VertexLog(item.get("vertex", ""), when, stream, b64decode(item["data"]))
    for item in message.get("warnings", ()):
        yield VertexWarning(
            item.get("vertex", ""),
            item.get("level", 0),
            b64decode(item.get("short", "")).decode(),
            tuple(b64decode(text).decode() for text in item.get("detail", ())),
            item.get("url", ""),
            _source(item.get("sourceInfo")),
            tuple(SourceRange(_position(place["start"]), _position(place["end"])) for place in item.get("range", ())),
        )


def _group(item: dict[str, Any] | None) -> ProgressGroup | None:
    if item is None:
        return None
    return ProgressGroup(item.get("id", ""), item.get("name", ""), item.get("weak", False))


def _source(item: dict[str, Any] | None) -> SourceFile | None:
    if item is None:
        return None
    return SourceFile(item.get("filename", ""), b64decode(item.get("data", "")), item.get("language", ""))


def _position(item: dict[str, int]) -> Position:
    return Position(item.get("line", 0), item.get("character", 0))


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def _seconds(event: ProgressEvent) -> float:
    match event:
        case Vertex():
            return (event.completed or event.started or 0) / 1e9
        case VertexStatus() | VertexLog():
            return (event.timestamp or 0) / 1e9
        case _:
            return 0.0
