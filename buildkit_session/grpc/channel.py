"""Calls to a server on one HTTP/2 connection.

Source: grpc/grpc:doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from buildkit_session.errors import RpcError, StreamReset
from buildkit_session.grpc.codec import MessageCodec
from buildkit_session.grpc.deadline import format_timeout
from buildkit_session.grpc.outgoing_call import OutgoingCall
from buildkit_session.grpc.status import Status
from buildkit_session.http2.frames import REFUSED_STREAM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    import betterproto2

    from buildkit_session.grpc.codec import Codec
    from buildkit_session.http2.client_connection import ClientConnection
    from buildkit_session.http2.events import Headers

__all__ = ["Channel"]

Request = TypeVar("Request")
Response = TypeVar("Response")
RequestMessage = TypeVar("RequestMessage", bound="betterproto2.Message")
ResponseMessage = TypeVar("ResponseMessage", bound="betterproto2.Message")

USER_AGENT: Final = b"buildkit-session"

# A server counts a call until it has written the end of it, so at its limit the next one may come too soon.
_TRIES: Final = 4
_PAUSE: Final = 0.01


class Channel:
    """Makes calls, any number at once; the connection stays its owner's.

    Every method raises :class:`RpcError` for a status other than OK, :class:`ConnectionClosed` when the connection
    ends first and :class:`LocalProtocolError` for a path or metadata that cannot be sent. A call that is cancelled, or
    whose block is left early, is reset, which cancels it in the server. What a block raises leaves it as it is.

    Args:
        connection: an HTTP/2 connection to the server.
        authority: what the server is called.
    """

    def __init__(self, connection: ClientConnection, *, authority: str = "localhost") -> None:
        self.connection = connection
        self._authority = _wire(authority)

    def __repr__(self) -> str:
        return f"<Channel to {self._authority!r} closed={self.connection.closed.is_set()}>"

    @asynccontextmanager
    async def call(
        self,
        path: str,
        *,
        request: Codec[Request],
        response: Codec[Response],
        metadata: Iterable[tuple[str, str]] = (),
        timeout: float | None = None,  # noqa: ASYNC109 - a deadline that the server is told as well
    ) -> AsyncIterator[OutgoingCall[Request, Response]]:
        """Begin a call and end it with the block.

        Args:
            path: ``/package.Service/Method``.
            request: encodes requests.
            response: decodes responses.
            metadata: keys in lower case, with values of any text; repeated ones keep their order.
            timeout: seconds after which the call fails with DEADLINE_EXCEEDED, on both sides. The block is cancelled.
        """
        with anyio.move_on_after(timeout) as scope:
            stream = await self.connection.open(self._headers(path, metadata, timeout))
            call = OutgoingCall(stream, method=path, request=request, response=response, deadline=scope.deadline)
            try:
                yield call
            finally:
                call.close()
        if scope.cancelled_caught:
            raise RpcError(Status.DEADLINE_EXCEEDED, f"{path} was not answered in {timeout:g} seconds")

    async def unary(
        self,
        path: str,
        message: RequestMessage,
        answer: type[ResponseMessage],
        *,
        metadata: Iterable[tuple[str, str]] = (),
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> ResponseMessage:
        """Send one message and return the one answer; arguments as for :meth:`call`.

        What the server refuses unread is sent again, a few times (grpc/proposal:A6-client-retries.md, "Transparent
        Retries").
        """
        metadata = tuple(metadata)
        for _ in range(_TRIES - 1):
            began = anyio.current_time()
            try:
                return await self._ask(path, message, answer, metadata, timeout)
            except RpcError as error:
                if not _was_refused(error):
                    raise
            await anyio.sleep(_PAUSE)
            if timeout is not None:
                timeout = max(0, timeout - (anyio.current_time() - began))
        return await self._ask(path, message, answer, metadata, timeout)

    async def _ask(
        self,
        path: str,
        message: RequestMessage,
        answer: type[ResponseMessage],
        metadata: Iterable[tuple[str, str]],
        timeout: float | None,  # noqa: ASYNC109 - as above
    ) -> ResponseMessage:
        async with self.stream(path, message, MessageCodec(answer), metadata=metadata, timeout=timeout) as call:
            return await call.only_response()

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        message: RequestMessage,
        response: Codec[Response],
        *,
        metadata: Iterable[tuple[str, str]] = (),
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> AsyncIterator[OutgoingCall[RequestMessage, Response]]:
        """Send one message and have the block receive the answers; arguments as for :meth:`call`."""
        request = MessageCodec(type(message))
        async with self.call(path, request=request, response=response, metadata=metadata, timeout=timeout) as call:
            await call.send(message)
            call.end()
            yield call

    def _headers(self, path: str, metadata: Iterable[tuple[str, str]], timeout: float | None) -> Headers:
        headers = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", _wire(path)),
            (b":authority", self._authority),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", USER_AGENT),
        ]
        if timeout is not None:
            headers.append((b"grpc-timeout", format_timeout(timeout)))
        return headers + [(_wire(key), _wire(value)) for key, value in metadata]


def _was_refused(error: RpcError) -> bool:
    """Whether the server has done nothing about a call (RFC 9113, section 8.7)."""
    reset = error.__cause__
    return isinstance(reset, StreamReset) and reset.by == "peer" and reset.code == REFUSED_STREAM


def _wire(text: str) -> bytes:
    """Text as it is sent; whether it may be is for the connection to say."""
    return text.encode("utf-8", "surrogateescape")
