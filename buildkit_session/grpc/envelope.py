"""Length-prefixed messages: one flag byte, a big-endian ``uint32`` length, the body.

Source: grpc/grpc:doc/PROTOCOL-HTTP2.md (Length-Prefixed-Message).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, TypeAlias

from buildkit_session.errors import RpcError
from buildkit_session.grpc.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_MESSAGE", "Body", "Buffer", "Unpacker", "pack"]

Buffer: TypeAlias = bytes | memoryview
Body: TypeAlias = Buffer | tuple[Buffer, ...]
"""The body of a message, in one piece or in several: large content is not copied to stand behind its header."""

PREFIX: Final = 5
_PREFIX: Final = Struct(">BI").pack
MAX_MESSAGE: Final = 16 * 1024 * 1024
"""Largest body accepted, in bytes: what daemons from BuildKit 0.13 on keep to; older ones send less."""


def pack(bodies: Iterable[Body]) -> list[Buffer]:
    """Put bodies into envelopes. Never compressed: Docker 20.10 cannot read compressed messages."""
    pieces: list[Buffer] = []
    for body in bodies:
        if isinstance(body, tuple):
            pieces += [_PREFIX(0, sum(map(len, body))), *body]
        else:
            pieces += (_PREFIX(0, len(body)), body)
    return pieces


class Unpacker:
    """Cuts a byte stream, in pieces of any size, into message bodies.

    Args:
        max_message: largest accepted body, in bytes. Checked on the prefix, before anything is buffered for it.
    """

    def __init__(self, *, max_message: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self._max_message = max_message

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._buffer += data

    def take(self) -> list[bytes]:
        """Return the bodies that have become whole, in order.

        Raises:
            RpcError: RESOURCE_EXHAUSTED for a body above the limit, INTERNAL for a flag other than 0: compressed
                messages are never announced to the peer, and the other flags do not exist. Raised once all bodies
                before the fault were taken, however the bytes were cut.
        """
        bodies: list[bytes] = []
        position = 0
        try:
            while (end := self._message_end(position)) is not None:
                bodies.append(bytes(memoryview(self._buffer)[position + PREFIX : end]))
                position = end
        except RpcError:
            if not bodies:
                raise
        del self._buffer[:position]
        return bodies

    def check_end(self) -> None:
        """Say that the stream has ended.

        Raises:
            RpcError: INTERNAL, it ended inside a message.
        """
        if self._buffer:
            raise RpcError(Status.INTERNAL, "the stream ended inside a message")

    def _message_end(self, position: int) -> int | None:
        if len(self._buffer) == position:
            return None
        if flag := self._buffer[position]:
            raise RpcError(Status.INTERNAL, f"message flag {flag}: compressed messages are not accepted")
        if len(self._buffer) - position < PREFIX:
            return None
        length = int.from_bytes(self._buffer[position + 1 : position + PREFIX], "big")
        if length > self._max_message:
            text = f"message of {length} bytes, {self._max_message} are accepted"
            raise RpcError(Status.RESOURCE_EXHAUSTED, text)
        end = position + PREFIX + length
        return end if end <= len(self._buffer) else None
