"""One call, as the side that makes it sees it.

Success is an explicit ``grpc-status: 0`` and nothing else: an answer that breaks off, an HTTP error page of a proxy, a
missing or unreadable status are all failures.

Source: grpc/grpc:doc/PROTOCOL-HTTP2.md (Responses, Errors), doc/http-grpc-status-mapping.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from buildkit_session.errors import RpcError, StreamReset
from buildkit_session.grpc.message_stream import MessageStream
from buildkit_session.grpc.metadata import Metadata
from buildkit_session.grpc.status import Status, status_of_http, status_of_reset, status_of_trailers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.grpc.codec import Codec
    from buildkit_session.http2.connection import Stream

__all__ = ["OutgoingCall"]

Request = TypeVar("Request")
Response = TypeVar("Response")

NO_ERROR = 0
CANCEL = 8


class OutgoingCall(MessageStream[Response, Request], Generic[Request, Response]):
    """A call under way. Made by :meth:`Channel.call`.

    Attributes:
        method: the path of the method.
    """

    def __init__(self, stream: Stream, *, method: str, request: Codec[Request], response: Codec[Response]) -> None:
        super().__init__(stream, incoming=response, outgoing=request)
        self.method = method
        self._sent_all = False
        self._judged = False  # the response's headers were looked at

    def __repr__(self) -> str:
        return f"<OutgoingCall {self.method} on {self._stream!r}>"

    def end(self) -> None:
        """Say that no request follows; those that were sent go out before."""
        if not self._sent_all:
            self._sent_all = True
            self._stream.send_end()

    async def headers(self) -> Metadata:
        """Wait for the metadata that the server sends before its first message.

        Raises:
            RpcError: the server does not answer as a gRPC server does.
            ConnectionClosed: the connection ended.
        """
        try:
            headers = await self._stream.wait_for_response()
        except StreamReset as reset:
            raise status_of_reset(reset) from reset
        if not self._judged:
            if (fault := status_of_http(headers)) is not None:
                raise fault
            self._judged = True
        return Metadata(headers)

    async def only_response(self) -> Response:
        """Return the one response of a call that has one, once the server has said that all went well.

        Raises:
            RpcError: a status other than OK; INTERNAL for any other number of responses.
            ConnectionClosed: the connection ended.
        """
        response = await self.recv()
        if response is None or await self.recv() is not None:
            raise RpcError(Status.INTERNAL, f"{self.method} was not answered by exactly one message")
        return response

    def close(self) -> None:
        """End the call. What the server has not finished is cancelled there."""
        if not self._stream.ended:
            self._stream.reset(CANCEL)
        elif not self._sent_all:
            self._stream.reset(NO_ERROR)

    async def send_many(self, messages: Iterable[Request]) -> None:
        """Send requests together; waits while the server is slower than this side.

        Raises:
            RpcError: the server has ended the call, with this status.
            ConnectionClosed: the connection ended.
        """
        try:
            await super().send_many(messages)
        except StreamReset as reset:
            raise self._failure(reset) from reset

    async def _wait(self) -> None:
        try:
            await self.headers()
            await super()._wait()
        except StreamReset as reset:
            if not self._stream.ended:
                raise status_of_reset(reset) from reset
            # All was said before: a server may reset what it has answered early (RFC 9113, section 8.1).
            self._unpacker.check_end()
        if not self._bodies:
            self._raise_for_status()

    def _failure(self, reset: StreamReset) -> RpcError:
        """Why the server wants no more: its status, if it has sent one."""
        try:
            if self._stream.ended:
                self._raise_for_status()
        except RpcError as status:
            return status
        return status_of_reset(reset)

    def _raise_for_status(self) -> None:
        stream = self._stream
        status = status_of_trailers(stream.trailers if stream.trailers is not None else stream.response or [])
        if status.code != Status.OK:
            raise status
