"""A call that this side makes.

Source: grpc/grpc:doc/PROTOCOL-HTTP2.md (Responses).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, TypeVar

from anyio import current_time

from buildkit_session.errors import RpcError, StreamReset
from buildkit_session.grpc.message_stream import MessageStream
from buildkit_session.grpc.metadata import Metadata
from buildkit_session.grpc.outcome import fault_of_response, status_of_reset, status_of_trailers
from buildkit_session.grpc.status import Status
from buildkit_session.http2.frames import CANCEL, NO_ERROR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.grpc.codec import Codec
    from buildkit_session.http2.connection import Stream

__all__ = ["OutgoingCall"]

Request = TypeVar("Request")
Response = TypeVar("Response")


class OutgoingCall(MessageStream[Response, Request], Generic[Request, Response]):
    """A call under way. Made by :meth:`Channel.call`.

    Attributes:
        method: the path of the method.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        method: str,
        request: Codec[Request],
        response: Codec[Response],
        deadline: float = math.inf,  # on the clock of the event loop
    ) -> None:
        super().__init__(stream, incoming=response, outgoing=request)
        self.method = method
        self._deadline = deadline
        self._has_responses = False  # at least one has come

    def __repr__(self) -> str:
        return f"<OutgoingCall {self.method} on {self._stream!r}>"

    def end(self) -> None:
        """Say that no request follows; those that were sent go out before."""
        self._stream.send_end()

    @property
    def ended(self) -> bool:
        """Whether the server has ended the call, or the connection is gone; what it sent may be unread yet."""
        return self._stream.ended or self._stream.failed

    async def headers(self) -> Metadata:
        """Wait for the metadata that the server sends before its first message.

        Raises:
            RpcError: the server does not answer as a gRPC server does.
            ConnectionClosed: the connection ended.
        """
        try:
            headers = await self._stream.wait_for_response()
        except StreamReset as reset:
            raise self._status_of(reset) from reset
        if (fault := fault_of_response(headers)) is not None:
            raise fault
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
        self._stream.reset(NO_ERROR if self._stream.ended else CANCEL)

    async def send_many(self, messages: Iterable[Request]) -> None:
        """Send requests together; waits while the server is slower than this side.

        What is sent after the server has ended the call well goes nowhere: it has answered without it.

        Raises:
            RpcError: the server has ended the call, with this status.
            ConnectionClosed: the connection ended.
        """
        try:
            await super().send_many(messages)
        except StreamReset as reset:
            raise self._status_of(reset) from reset
        if self._stream.ended:
            self._raise_for_status()

    async def _wait(self) -> None:
        await self.headers()
        try:
            await super()._wait()
        except StreamReset as reset:
            raise self._status_of(reset) from reset
        if self._bodies:
            self._has_responses = True
        else:
            self._raise_for_status()

    def _status_of(self, reset: StreamReset) -> RpcError:
        return status_of_reset(reset, expired=current_time() >= self._deadline)

    def _raise_for_status(self) -> None:
        response, trailers = self._stream.response or [], self._stream.trailers
        if (fault := fault_of_response(response)) is not None:
            raise fault
        if trailers is None:
            # Without a message before it the status may come with the headers, in one frame.
            trailers = [] if self._has_responses else response
        if (status := status_of_trailers(trailers)).code != Status.OK:
            raise status
