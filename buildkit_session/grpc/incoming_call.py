"""A call that is served, as its handler sees it: messages in, messages out, metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from buildkit_session.grpc.message_stream import MessageStream
from buildkit_session.grpc.status import status_trailers

if TYPE_CHECKING:
    from buildkit_session.grpc.allowance import Allowance
    from buildkit_session.grpc.codec import Codec
    from buildkit_session.grpc.metadata import Metadata
    from buildkit_session.http2.connection import Stream

__all__ = ["IncomingCall"]

Request = TypeVar("Request")
Response = TypeVar("Response")

RESPONSE_HEADERS: Final = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity"),
]


class IncomingCall(MessageStream[Request, Response]):
    """A call being served. Requests and responses are of the types that the route selected for this stream.

    Attributes:
        method: the path of the method, as the route spells it.
        metadata: what the caller sent along.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        method: str,
        metadata: Metadata,
        request: Codec[Request],
        response: Codec[Response],
        allowance: Allowance | None = None,
    ) -> None:
        super().__init__(stream, incoming=request, outgoing=response, allowance=allowance)
        self.method = method
        self.metadata = metadata
        self._headers_sent = False

    def __repr__(self) -> str:
        return f"<IncomingCall {self.method} on {self._stream!r}>"

    def finish(self, code: int, message: str = "", details: bytes = b"") -> None:
        """Send the status, which ends the call. Without a response before it, both go in one frame."""
        trailers = status_trailers(code, message, details)
        self._stream.send_trailers(trailers if self._headers_sent else RESPONSE_HEADERS + trailers)

    def _before_payload(self) -> None:
        if not self._headers_sent:
            self._headers_sent = True
            self._stream.send_headers(RESPONSE_HEADERS)
