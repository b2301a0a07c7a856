"""Progress messages as bytes, read quickly.

Every build reads dozens, a chatty one thousands. The general decoder first has to load the schema of the whole Control
API, a tenth of all that a build loads, and then visits each message twice. The one here knows steps, statuses and logs.
For anything else (warnings, unknown fields, times before 1970, anything large or malformed) it raises
:class:`UnusualError`: the general decoder so remains the judge of what is accepted, and a property test holds both to
the same results.

Source: protobuf.dev, "Encoding"; moby/buildkit:api/services/control/control.proto (StatusResponse and its parts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from buildkit_session.engine.events import ProgressGroup, Vertex, VertexLog, VertexStatus
from buildkit_session.grpc.varint import read_varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeAlias

    from buildkit_session.engine.events import ProgressEvent

    # The name and the reader of each field, by its key: 8 * its number, + 0 for a number, + 2 for bytes.
    Fields: TypeAlias = Mapping[int, tuple[str, Callable[[Any], object]]]

__all__ = ["UnusualError", "decode"]

_NANOSECONDS: Final = 1_000_000_000
_INT32_BITS: Final = 31

MAX_SIZE: Final = 512 * 1024
"""Bytes up to which messages are decoded here: how many events a larger one holds is for the general decoder to count.
Daemons send one ten times a second, of some kilobytes."""


class UnusualError(Exception):
    """The general decoder has to look at this message."""


def decode(data: bytes) -> list[ProgressEvent]:
    """Decode a serialized ``moby.buildkit.v1.StatusResponse``: steps first, then statuses, then logs.

    Raises:
        UnusualError: it is not one of those that are decoded here.
    """
    if len(data) > MAX_SIZE:
        raise UnusualError
    parts: dict[int, list[ProgressEvent]] = {key: [] for key in _PARTS}
    try:
        for key, value in _fields(data):
            parts[key].append(_PARTS[key](value))
    except (KeyError, IndexError, OverflowError, ValueError) as error:
        raise UnusualError from error
    return [event for events in parts.values() for event in events]


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield key and value, a number or bytes, of each field. No field that is known here has a key above one byte."""
    position = 0
    while position < len(data):
        key = data[position]
        value, position = read_varint(data, position + 1)
        if key & 7 == 2 and position + value <= len(data):
            yield key, data[position : position + value]
            position += value
        elif key & 7 == 0:
            yield key, value
        else:
            raise UnusualError


def _read(data: bytes, fields: Fields) -> dict[str, Any]:
    """Read a message. Of a field that was sent more than once the last value counts."""
    found: dict[str, Any] = {}
    for key, value in _fields(data):
        name, read = fields[key]
        found[name] = read(value)
    return found


def _text(value: bytes) -> str:
    return str(value, "utf-8")


def _int32(value: int) -> int:
    if value >> _INT32_BITS:
        raise UnusualError
    return value


def _time(value: bytes) -> int:
    time = _read(value, _TIME)
    return int(time.get("seconds", 0) * _NANOSECONDS + time.get("nanos", 0))


def _group(value: bytes) -> ProgressGroup:
    found = _read(value, _GROUP)
    return ProgressGroup(id=found.get("id", ""), name=found.get("name", ""), weak=found.get("weak", False))


def _vertex(data: bytes) -> Vertex:
    found = _read(data, _VERTEX)
    return Vertex(
        digest=found.get("digest", ""),
        name=found.get("name", ""),
        inputs=tuple(_text(value) for key, value in _fields(data) if key == _INPUT),
        cached=found.get("cached", False),
        started=found.get("started"),
        completed=found.get("completed"),
        error=found.get("error", ""),
        progress_group=found.get("group"),
    )


def _status(data: bytes) -> VertexStatus:
    found = _read(data, _STATUS)
    return VertexStatus(
        id=found.get("id", ""),
        vertex=found.get("vertex", ""),
        name=found.get("name", ""),
        current=found.get("current", 0),
        total=found.get("total", 0),
        timestamp=found.get("timestamp"),
        started=found.get("started"),
        completed=found.get("completed"),
    )


def _log(data: bytes) -> VertexLog:
    found = _read(data, _LOG)
    return VertexLog(
        vertex=found.get("vertex", ""),
        timestamp=found.get("timestamp"),
        stream=found.get("stream", 0),
        data=found.get("data", b""),
    )


_INPUT: Final = 0x12

_TIME: Final[Fields] = {0x08: ("seconds", int), 0x10: ("nanos", _int32)}
_GROUP: Final[Fields] = {0x0A: ("id", _text), 0x12: ("name", _text), 0x18: ("weak", bool)}
_VERTEX: Final[Fields] = {
    0x0A: ("digest", _text),
    _INPUT: ("an input", _text),
    0x1A: ("name", _text),
    0x20: ("cached", bool),
    0x2A: ("started", _time),
    0x32: ("completed", _time),
    0x3A: ("error", _text),
    0x42: ("group", _group),
}
_STATUS: Final[Fields] = {
    0x0A: ("id", _text),
    0x12: ("vertex", _text),
    0x1A: ("name", _text),
    0x20: ("current", int),
    0x28: ("total", int),
    0x32: ("timestamp", _time),
    0x3A: ("started", _time),
    0x42: ("completed", _time),
}
_LOG: Final[Fields] = {
    0x0A: ("vertex", _text),
    0x12: ("timestamp", _time),
    0x18: ("stream", int),
    0x22: ("data", bytes),
}

_PARTS: Final[Mapping[int, Callable[[bytes], ProgressEvent]]] = {0x0A: _vertex, 0x12: _status, 0x1A: _log}
