"""The HTTP/2 state machine in the client role: this side opens the streams.

A stream of a client lives until the server has ended its side, or one of the two has reset it. A server may answer
before it was sent everything; what is then left to send nobody needs, and the stream is reset without an error.

Source: RFC 9113, sections 5.1, 8.1 and 8.3.2; grpc/grpc-go:internal/transport/http2_client.go (closeStream).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import h2.events

from buildkit_session.errors import LocalProtocolError, RemoteProtocolError
from buildkit_session.http2.core import CONNECTION_WINDOW, LARGEST_FRAME, STREAM_WINDOW, Core
from buildkit_session.http2.events import HeadersReceived, StreamEnded, StreamResetReceived
from buildkit_session.http2.fields import request_fault, response_fault, trailers_fault
from buildkit_session.http2.frames import HEADER, NO_ERROR, PROTOCOL_ERROR
from buildkit_session.http2.header_block import HeaderBlock

if TYPE_CHECKING:
    from buildkit_session.http2.events import Event, Headers
    from buildkit_session.http2.frames import Frame

__all__ = ["ClientCore"]

MAX_HEADER_LIST: Final = 16 * 1024 * 1024 + 64 * 1024
"""Bytes of a decoded header list that are taken: the trailers of a failed build hold the Dockerfile, twice encoded."""


class ClientCore(Core):
    """One HTTP/2 connection in the client role.

    The server's limit of open streams is kept to by the caller: see :attr:`can_open`.
    """

    _is_server = False

    def __init__(
        self,
        *,
        stream_window: int = STREAM_WINDOW,
        connection_window: int = CONNECTION_WINDOW,
        max_header_list: int = MAX_HEADER_LIST,
    ) -> None:
        """Begin a connection; the arguments are those of :class:`Core`."""
        super().__init__(
            stream_window=stream_window, connection_window=connection_window, max_header_list=max_header_list
        )
        self._block = HeaderBlock(limit=min(max_header_list, LARGEST_FRAME))
        self._alive: set[int] = set()  # the server may still send; ``_streams`` are those of them where we may too
        self._answered: set[int] = set()  # alive, and the headers of the response have come

    @property
    def can_open(self) -> bool:
        """Whether the server takes one more stream now."""
        return not self._closed and len(self._alive) < self._h2.remote_settings.max_concurrent_streams

    def open_stream(self, headers: Headers) -> int:
        """Open a stream with the headers of a request and return its number. There must be room for it.

        Raises:
            LocalProtocolError: the headers are malformed; nothing was sent.
        """
        if (fault := request_fault(headers)) is not None:
            raise LocalProtocolError(f"the request cannot be sent: {fault}")
        stream_id = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream_id, headers)
        self._alive.add(stream_id)
        self._streams.add(stream_id)
        self._credit.open(stream_id)
        self._outbox.open(stream_id)
        return stream_id

    def end_stream(self, stream_id: int) -> None:
        """Queue the end of our side behind all payload."""
        self.send_trailers(stream_id, [])

    def is_open(self, stream_id: int) -> bool:
        """Whether the server may still send on a stream."""
        return stream_id in self._alive

    def _payload(self, stream_id: int, pieces: list[memoryview], arrived: list[Event]) -> None:
        if self._is_unanswered(stream_id):
            self._refuse_payload(stream_id, len(pieces[0]), arrived)
            pieces = pieces[1:]
        super()._payload(stream_id, pieces, arrived)

    def _data_frame(self, frame: Frame, arrived: list[Event]) -> None:
        _, _, stream_id, wire = frame
        if self._is_unanswered(stream_id):
            self._refuse_payload(stream_id, len(wire) - HEADER, arrived)
        else:
            super()._data_frame(frame, arrived)

    def _is_unanswered(self, stream_id: int) -> bool:
        return stream_id in self._alive and stream_id not in self._answered

    def _refuse_payload(self, stream_id: int, size: int, arrived: list[Event]) -> None:
        """End a stream that brings payload without the headers of a response (RFC 9113, section 8.1)."""
        self._credit.received(stream_id, size)
        self._refuse(stream_id, arrived)

    def _translate(self, event: h2.events.Event, arrived: list[Event]) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                headers = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
                is_last = event.stream_ended is not None
                self._headers_received(event.stream_id or 0, headers, arrived, is_last=is_last)
            case h2.events.StreamEnded():
                self._end_received(event.stream_id or 0, arrived)
            case h2.events.RequestReceived():
                # h2 takes headers on a number that only a server could open, and nothing was promised (section 8.4).
                raise RemoteProtocolError("the server opened a stream", code=PROTOCOL_ERROR)
            case _:
                super()._translate(event, arrived)

    def _headers_received(self, stream_id: int, headers: Headers, arrived: list[Event], *, is_last: bool) -> None:
        first = stream_id not in self._answered
        if (response_fault if first else trailers_fault)(headers) is not None:
            self._refuse(stream_id, arrived, is_last=is_last)
            return
        self._answered.add(stream_id)
        if first or headers:  # DATA that ends a stream is shown to ``h2`` as trailers without fields
            arrived.append(HeadersReceived(stream_id, headers))

    def _refuse(self, stream_id: int, arrived: list[Event], *, is_last: bool = False) -> None:
        """End a stream over its malformed answer; the others go on (RFC 9113, section 8.1.1)."""
        if is_last and stream_id not in self._streams:
            self._forget(stream_id)  # both sides have ended it: for h2 nothing is left to reset
        else:
            self.reset_stream(stream_id, PROTOCOL_ERROR)
        arrived.append(StreamResetReceived(stream_id, PROTOCOL_ERROR, by="library"))

    def _end_received(self, stream_id: int, arrived: list[Event]) -> None:
        if stream_id not in self._alive:
            return
        arrived.append(StreamEnded(stream_id))
        if stream_id in self._streams:
            self.reset_stream(stream_id, NO_ERROR)
        else:
            self._forget(stream_id)

    def _finish(self, stream_id: int, _trailers: Headers) -> None:
        self._h2.end_stream(stream_id)
        self._streams.discard(stream_id)
        self._outbox.drop(stream_id)

    def _forget(self, stream_id: int) -> bool:
        if stream_id not in self._alive:
            return False
        self._alive.discard(stream_id)
        self._answered.discard(stream_id)
        self._streams.discard(stream_id)
        self._credit.drop(stream_id)
        self._outbox.drop(stream_id)
        return True

    def _shut(self) -> None:
        super()._shut()
        self._alive.clear()
        self._answered.clear()
