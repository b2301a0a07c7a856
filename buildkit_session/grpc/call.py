"""One call, as its handler sees it: messages in, messages out, metadata."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from anyio.lowlevel import checkpoint

from buildkit_session.errors import RpcError, SessionError
from buildkit_session.grpc.envelope import Unpacker, pack
from buildkit_session.grpc.status import Status, status_trailers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.grpc.codec import Codec
    from buildkit_session.grpc.envelope import Buffer
    from buildkit_session.grpc.metadata import Metadata
    from buildkit_session.http2.connection import Stream

__all__ = ["Call"]

Request = TypeVar("Request")
Response = TypeVar("Response")

BATCH: Final = 512
"""Messages decoded in one turn of the event loop, so that a flood of small ones does not hold it."""

RESPONSE_HEADERS: Final = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity"),
]


class Call(Generic[Request, Response]):
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
    ) -> None:
        self.method = method
        self.metadata = metadata
        self._stream = stream
        self._request = request
        self._response = response
        self._unpacker = Unpacker()
        self._bodies: deque[Buffer] = deque()  # received, not decoded yet
        self._headers_sent = False

    def __repr__(self) -> str:
        return f"<Call {self.method} on {self._stream!r}>"

    async def recv(self) -> Request | None:
        """Return the next request, or ``None`` when the caller has sent its last one. A cancelled call loses nothing.

        Raises:
            RpcError: the next message cannot be accepted or decoded, or the stream ended inside it.
            StreamReset: the caller gave the call up, and every request before that was returned.
            ConnectionClosed: the connection ended.
        """
        await self._wait()
        return self._take() if self._bodies else None

    async def recv_many(self) -> list[Request]:
        """Return requests that have arrived, ``BATCH`` at most, waiting for at least one; ``[]`` after the last.

        Raises: as :meth:`recv`; a fault in a message is raised after those before it were returned.
        """
        await self._wait()
        requests: list[Request] = []
        try:
            while self._bodies:
                requests.append(self._take())
        except RpcError:
            if not requests:
                raise
        return requests

    async def send(self, message: Response) -> None:
        """Send a response; waits while the peer or the connection is slower than this side.

        Raises:
            StreamReset: the caller gave the call up.
            ConnectionClosed: the connection ended.
        """
        await self.send_many((message,))

    async def send_many(self, messages: Iterable[Response]) -> None:
        """Send responses together, which costs less than one by one; waits as :meth:`send`.

        Raises: as :meth:`send`.
        """
        pieces = pack(map(self._response.encode, messages))
        self._send_headers()
        await self._stream.send(*pieces)

    def finish(self, code: int, message: str = "", details: bytes = b"") -> None:
        """Send the status, which ends the call. Without a response before it, both go in one frame."""
        trailers = status_trailers(code, message, details)
        self._stream.send_trailers(trailers if self._headers_sent else RESPONSE_HEADERS + trailers)

    def _send_headers(self) -> None:
        if not self._headers_sent:
            self._headers_sent = True
            self._stream.send_headers(RESPONSE_HEADERS)

    async def _wait(self) -> None:
        """Wait for a message; there is none afterwards only when the caller has sent its last one."""
        if self._take_bodies():
            # What is here already is taken without waiting; others get their turn all the same.
            await checkpoint()
            return
        while not self._take_bodies():
            data = await self._stream.receive()
            if not data:
                self._unpacker.check_end()
                return
            while data:
                self._unpacker.feed(data)
                data = self._stream.receive_nowait()

    def _take_bodies(self) -> bool:
        """Have bodies to decode, if any are whole."""
        if not self._bodies:
            self._bodies.extend(self._unpacker.take(BATCH))
        return bool(self._bodies)

    def _take(self) -> Request:
        """Decode the next message and remove it; one that cannot be decoded stays."""
        body = self._bodies[0]
        try:
            request = self._request.decode(body)
        except SessionError:
            raise
        except Exception as error:  # a codec may raise anything on what the peer sent
            text = f"cannot decode a request of {len(body)} bytes"
            raise RpcError(Status.INTERNAL, text) from error
        self._bodies.popleft()
        return request
