"""What the core reports after it was fed bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_session.http2.frames import Buffer

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


@dataclass(frozen=True, slots=True, eq=False)
class DataReceived:
    """Payload of a stream, padding removed. Its window is given back by :meth:`Core.consumed`.

    Two of these are equal when their payload is, however it is cut.

    Attributes:
        stream_id: the stream's number.
        pieces: the payload in the pieces it came in, none empty. They are lent by whoever gave the bytes to the core:
            copy what is to be kept.
    """

    stream_id: int
    pieces: Sequence[Buffer]

    @property
    def data(self) -> bytes:
        """All of it, copied."""
        return b"".join(self.pieces)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DataReceived):
            return NotImplemented
        return self.stream_id == other.stream_id and self.data == other.data

    __hash__ = None  # type: ignore[assignment]


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
