"""Length-prefixed messages: one flag byte, a big-endian ``uint32`` length, the body.

Source: grpc/grpc:doc/PROTOCOL-HTTP2.md (Length-Prefixed-Message).
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Final, TypeAlias

from buildkit_session.errors import RpcError
from buildkit_session.grpc.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_MESSAGE", "Body", "Buffer", "Unpacker", "pack"]

Buffer: TypeAlias = bytes | bytearray | memoryview
Body: TypeAlias = Buffer | tuple[Buffer, ...]
"""The body of a message, in one piece or in several: large content is not copied to stand behind its header."""

PREFIX: Final = 5
_PREFIX: Final = Struct(">BI")  # flag and length
SMALL: Final = 8 * 1024
"""Bytes up to which a part of a message is copied to stand behind the one before it."""

MAX_MESSAGE: Final = 16 * 1024 * 1024
"""Largest body accepted, in bytes: what daemons from BuildKit 0.13 on keep to; older ones send less."""


def pack(bodies: Iterable[Body]) -> list[Buffer]:
    """Put bodies into envelopes. Never compressed: Docker 20.10 cannot read compressed messages."""
    pieces: list[Buffer] = []
    small: list[Buffer] = []  # joined: below, each piece costs more than its bytes
    for body in bodies:
        parts = body if isinstance(body, tuple) else (body,)
        small.append(_PREFIX.pack(0, sum(map(len, parts))))
        for part in parts:
            if len(part) > SMALL:
                pieces += (b"".join(small), part)
                small.clear()
            else:
                small.append(part)
    if small:
        pieces.append(b"".join(small))
    return pieces


class Unpacker:
    """Cuts a byte stream, in pieces of any size, into message bodies.

    A body inside one piece is a view of it, and only one that is spread over pieces is copied.

    Args:
        max_message: largest accepted body, in bytes. Checked on the prefix, before anything is buffered for it.
        unasked: largest body that is put together without asking, in bytes; all of them by default.

    Attributes:
        asked: bytes of a body that is not put together before :meth:`grant` is called; 0 if there is none.
        granted: bytes of the body that is put together since; 0 when it is whole.
    """

    def __init__(self, *, max_message: int = MAX_MESSAGE, unasked: int = MAX_MESSAGE) -> None:
        self.asked = 0
        self.granted = 0
        self._max_message = max_message
        self._unasked = unasked
        self._pieces: deque[memoryview] = deque()
        self._piece = memoryview(b"")  # the one that is being cut
        self._position = 0
        self._begun = bytearray()  # a message, prefix included, whose end is in a later piece

    def feed(self, data: Buffer) -> None:
        """Take bytes, which must not change any more."""
        if data:
            self._pieces.append(memoryview(data))

    def take(self, limit: int) -> list[Buffer]:
        """Return the bodies that have become whole, in order, ``limit`` at most.

        Raises:
            RpcError: RESOURCE_EXHAUSTED for a body above the limit, INTERNAL for a flag other than 0: compressed
                messages are never announced to the peer, and the other flags do not exist. Raised once all bodies
                before the fault were taken, however the bytes were cut.
        """
        bodies: list[Buffer] = []
        try:
            while len(bodies) < limit and (body := self._next()) is not None:
                bodies.append(body)
        except RpcError:
            if not bodies:
                raise
        return bodies

    def grant(self) -> None:
        """Let the body be put together that was asked about."""
        self.granted, self.asked = self.asked, 0

    def check_end(self) -> None:
        """Say that the stream has ended and all bodies were taken.

        Raises:
            RpcError: INTERNAL, it ended inside a message.
        """
        if self._begun:
            raise RpcError(Status.INTERNAL, "the stream ended inside a message")

    def _next(self) -> memoryview | None:
        start = self._position + PREFIX
        if self._begun or start > len(self._piece):
            return self._next_spread()
        flag, length = _PREFIX.unpack_from(self._piece, self._position)
        if flag or length > self._max_message:
            raise self._fault(flag, length)
        end = start + length
        if end > len(self._piece):
            return self._next_spread()
        self._position = end
        return self._piece[start:end]

    def _next_spread(self) -> memoryview | None:
        """The next body, if it begins in this piece and ends in a later one, or begins with the next."""
        while missing := self._missing():
            if self.asked:
                return None
            if self._position == len(self._piece):
                if not self._pieces:
                    return None
                self._piece, self._position = self._pieces.popleft(), 0
                if not self._begun:
                    return self._next()
            taken = self._piece[self._position : self._position + missing]
            self._begun += taken
            self._position += len(taken)
        body, self._begun = memoryview(self._begun)[PREFIX:], bytearray()
        self.granted = 0
        return body

    def _missing(self) -> int:
        """Bytes that the message which has begun lacks; first those of its prefix."""
        present = len(self._begun)
        if present and self._begun[0]:
            raise self._fault(self._begun[0], 0)
        if present < PREFIX:
            return PREFIX - present
        length: int = _PREFIX.unpack_from(self._begun)[1]
        if length > self._max_message:
            raise self._fault(0, length)
        if length > self._unasked and not self.granted:
            self.asked = length
        return PREFIX + length - present

    def _fault(self, flag: int, length: int) -> RpcError:
        if flag:
            return RpcError(Status.INTERNAL, f"message flag {flag}: compressed messages are not accepted")
        text = f"message of {length} bytes, {self._max_message} are accepted"
        return RpcError(Status.RESOURCE_EXHAUSTED, text)
