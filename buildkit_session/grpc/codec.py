"""How a message becomes bytes. Chosen for every stream on its own, by the route (see ``router``)."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import betterproto2

from buildkit_session.grpc.wirecheck import check_wire

__all__ = ["BYTES", "BytesCodec", "Codec", "MessageCodec"]

M = TypeVar("M", bound=betterproto2.Message)
T = TypeVar("T")


class Codec(Protocol[T]):
    """Encodes and decodes one type of message."""

    def encode(self, message: T, /) -> bytes:
        """Return the body for the wire."""
        ...

    def decode(self, body: bytes, /) -> T:
        """Return the message.

        Raises:
            Exception: any; the call ends with INTERNAL.
        """
        ...


class MessageCodec(Generic[M]):
    """The codec of a generated betterproto2 message."""

    def __init__(self, message_type: type[M]) -> None:
        self.message_type = message_type

    def __repr__(self) -> str:
        return f"<MessageCodec {self.message_type.__name__}>"

    def encode(self, message: M, /) -> bytes:
        """See :class:`Codec`."""
        return bytes(message)

    def decode(self, body: bytes, /) -> M:
        """See :class:`Codec`."""
        check_wire(self.message_type, body)
        return self.message_type.parse(body)


class BytesCodec:
    """Messages as they are on the wire; for services that look inside themselves, and for experiments."""

    def encode(self, message: bytes, /) -> bytes:
        """See :class:`Codec`."""
        return message

    def decode(self, body: bytes, /) -> bytes:
        """See :class:`Codec`."""
        return body


BYTES = BytesCodec()
