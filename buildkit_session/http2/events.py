"""What the core reports after it was fed bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "DataReceived",
    "Event",
    "GoAwayReceived",
    "Headers",
    "HeadersReceived",
    "StreamEnded",
    "StreamOpened",
    "StreamResetReceived",
]

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Fields in order of arrival, names in lower case, repeated names kept apart."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream with a request."""

    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class HeadersReceived:
    """The peer answered a stream of ours: first the headers of its response, later perhaps the trailers."""

    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Payload of a stream, padding removed. Its window is given back by :meth:`Core.consumed`."""

    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer sends nothing more on this stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamResetReceived:
    """A stream ended early with this HTTP/2 error code: the peer has reset it, or was told that it did wrong on it."""

    stream_id: int
    code: int
    by: Literal["peer", "library"] = "peer"


@dataclass(frozen=True, slots=True)
class GoAwayReceived:
    """The peer opens no further streams; those below or at ``last_stream_id`` may still finish."""

    code: int
    last_stream_id: int
    debug: bytes


Event: TypeAlias = StreamOpened | HeadersReceived | DataReceived | StreamEnded | StreamResetReceived | GoAwayReceived
