"""A call that is served, as those see it who watch it: what is asked, by whom, how much goes each way, how it ends.

It holds no message and no value, so that it can be logged or kept as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio

from buildkit_session.grpc.router import Codecs
from buildkit_session.grpc.status import Status
from buildkit_session.printable import printable

if TYPE_CHECKING:
    from buildkit_session.errors import RpcError
    from buildkit_session.grpc.codec import Codec
    from buildkit_session.grpc.envelope import Body, Buffer
    from buildkit_session.grpc.metadata import Metadata

__all__ = ["ServedCall"]

MAX_TEXT: Final = 300
"""Characters that are kept of what the daemon calls things."""

T = TypeVar("T")


class ServedCall:
    """One call of the daemon.

    Attributes:
        session: the id of the session that it came in on: who asks, where several builds run at once.
        method: the path, ``/package.Service/Method``. Of a method that nobody serves as the daemon wrote it.
        metadata: what the daemon sent along. Its words: not to be printed as they are.
        subject: what is asked for, in words that may be logged: the id of a secret or an agent, the host of a registry,
            the name of a directory, the id of an exporter, a store and a digest. Empty where there is nothing to name.
        status: how the call has ended so far; ``None`` while it runs. What an interceptor raises later replaces it.
        message: the text that goes with the status, as the daemon is told it and made safe to print.
        messages_in: requests that were taken.
        messages_out: responses that were sent.
        bytes_in: of these requests, encoded, without the frames around them.
        bytes_out: of these responses.
    """

    __slots__ = (
        "_began",
        "_ended",
        "_received",
        "_sent",
        "message",
        "metadata",
        "method",
        "session",
        "status",
        "subject",
    )

    def __init__(self, method: str, metadata: Metadata, *, session: str) -> None:
        self.method = safe(method)
        self.metadata = metadata
        self.session = session
        self.subject = ""
        self.status: Status | None = None
        self.message = ""
        self._received = Tally()
        self._sent = Tally()
        self._began = anyio.current_time()
        self._ended: float | None = None

    def __repr__(self) -> str:
        status = "running" if self.status is None else self.status.name
        return f"<ServedCall {self.method} {self.subject!r} {status} in={self.bytes_in} out={self.bytes_out}>"

    @property
    def messages_in(self) -> int:
        """See the class."""
        return self._received.messages

    @property
    def messages_out(self) -> int:
        """See the class."""
        return self._sent.messages

    @property
    def bytes_in(self) -> int:
        """See the class."""
        return self._received.bytes

    @property
    def bytes_out(self) -> int:
        """See the class."""
        return self._sent.bytes

    @property
    def seconds(self) -> float:
        """How long it has taken: since its headers came, until now or until it ended."""
        return (anyio.current_time() if self._ended is None else self._ended) - self._began

    # -- for who serves it --

    def counted(self, codecs: Codecs) -> Codecs:
        """Codecs that do the same and count."""
        return Codecs(CountedCodec(codecs.request, self._received), CountedCodec(codecs.response, self._sent))

    def end(self, error: RpcError) -> None:
        """Note the status of the call."""
        self._ended = anyio.current_time()
        # Numbers that do not exist count as UNKNOWN, as everywhere with gRPC.
        self.status = next((status for status in Status if status == error.code), Status.UNKNOWN)
        self.message = printable(error.message)


def safe(text: str) -> str:
    """Make a text of the daemon's one that may be logged."""
    return printable(text[:MAX_TEXT])[:MAX_TEXT]


class Tally:
    """How much went one way."""

    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0

    def add(self, body: Body) -> None:
        """Count a message."""
        self.messages += 1
        self.bytes += sum(map(len, body)) if isinstance(body, tuple) else len(body)


class CountedCodec(Generic[T]):
    """Counts where messages become bytes, so that calls which nobody watches are not slowed by it."""

    def __init__(self, codec: Codec[Any], tally: Tally) -> None:
        self.codec = codec
        self._tally = tally

    def encode(self, message: T, /) -> Body:
        """See :class:`~buildkit_session.grpc.codec.Codec`."""
        body = self.codec.encode(message)
        self._tally.add(body)
        return body

    def decode(self, body: Buffer, /) -> T:
        """See :class:`~buildkit_session.grpc.codec.Codec`."""
        message: T = self.codec.decode(body)
        self._tally.add(body)
        return message
