"""Messages in and messages out on one HTTP/2 stream: what both ends of a call have in common."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from anyio.lowlevel import checkpoint

from buildkit_session.errors import RpcError, SessionError
from buildkit_session.grpc.allowance import LARGE
from buildkit_session.grpc.envelope import MAX_MESSAGE, Unpacker, pack
from buildkit_session.grpc.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.grpc.allowance import Allowance
    from buildkit_session.grpc.codec import Codec
    from buildkit_session.grpc.envelope import Buffer
    from buildkit_session.http2.connection import Stream

__all__ = ["MessageStream"]

Incoming = TypeVar("Incoming")
Outgoing = TypeVar("Outgoing")

BATCH: Final = 512
"""Messages decoded in one turn of the event loop, so that a flood of small ones does not hold it."""


class MessageStream(Generic[Incoming, Outgoing]):
    """Reads and writes messages.

    Args:
        stream: carries them.
        incoming: decodes what is received.
        outgoing: encodes what is sent.
        allowance: bounds the large messages that are held at once; ``None`` where the other end may send what it likes.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        incoming: Codec[Incoming],
        outgoing: Codec[Outgoing],
        allowance: Allowance | None = None,
    ) -> None:
        self._stream = stream
        self._incoming = incoming
        self._outgoing = outgoing
        self._unpacker = Unpacker(unasked=MAX_MESSAGE if allowance is None else LARGE)
        self._allowance = allowance
        self._held = 0  # bytes of the allowance for what was taken or is whole
        self._bodies: deque[Buffer] = deque()  # received, not decoded yet

    async def recv(self) -> Incoming | None:
        """Return the next message, or ``None`` when the peer has sent its last one. A cancelled call loses nothing.

        Raises:
            RpcError: the next message cannot be accepted or decoded, or the stream ended inside it.
            StreamReset: the peer gave the call up, and every message before that was returned.
            ConnectionClosed: the connection ended.
        """
        await self._wait()
        return self._take() if self._bodies else None

    async def recv_many(self) -> list[Incoming]:
        """Return messages that have arrived, ``BATCH`` at most, waiting for at least one; ``[]`` after the last.

        Raises: as :meth:`recv`; a fault in a message is raised after those before it were returned.
        """
        await self._wait()
        messages: list[Incoming] = []
        try:
            while self._bodies:
                messages.append(self._take())
        except RpcError:
            if not messages:
                raise
        return messages

    async def peek(self) -> Buffer | None:
        """Return the body of the next message, not decoded, and leave it to be received; ``None`` after the last.

        Raises: as :meth:`recv`, which raises the same once more.
        """
        await self._wait()
        return self._bodies[0] if self._bodies else None

    async def send(self, message: Outgoing) -> None:
        """Send a message; waits while the peer or the connection is slower than this side.

        Raises:
            StreamReset: the peer gave the call up.
            ConnectionClosed: the connection ended.
        """
        await self.send_many((message,))

    async def send_many(self, messages: Iterable[Outgoing]) -> None:
        """Send messages together, which costs less than one by one; waits as :meth:`send`.

        Raises: as :meth:`send`.
        """
        pieces = pack(map(self._outgoing.encode, messages))
        self._before_payload()
        await self._stream.send(*pieces)

    def _before_payload(self) -> None:
        """Send what must stand before the first message."""

    async def _wait(self) -> None:
        """Wait for a message; there is none afterwards only when the peer has sent its last one."""
        if self._take_bodies():
            # What is here already is taken without waiting; others get their turn all the same.
            await checkpoint()
            return
        while not self._take_bodies():
            if self._allowance is not None and self._unpacker.asked:
                self._let_go()  # who asks for more has dealt with what there was
                await self._allowance.take(self._unpacker.asked)
                self._unpacker.grant()
                continue
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
            begun = self._unpacker.granted
            self._bodies.extend(self._unpacker.take(BATCH))
            if self._bodies:
                self._let_go()
                self._held = begun - self._unpacker.granted
        return bool(self._bodies)

    def release(self) -> None:
        """Hold no message any more, as the call has ended."""
        self._held += self._unpacker.granted
        self._unpacker.granted = 0
        self._let_go()

    def _let_go(self) -> None:
        if self._allowance is not None and self._held:
            self._allowance.give_back(self._held)
            self._held = 0

    def _take(self) -> Incoming:
        """Decode the next message and remove it; one that cannot be decoded stays."""
        body = self._bodies[0]
        try:
            message = self._incoming.decode(body)
        except SessionError:
            raise
        except Exception as error:  # a codec may raise anything on what the peer sent
            text = f"cannot decode a message of {len(body)} bytes"
            raise RpcError(Status.INTERNAL, text) from error
        self._bodies.popleft()
        return message
