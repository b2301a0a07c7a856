"""How a message becomes bytes. Chosen for every stream on its own, by the route (see ``router``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import betterproto2

from buildkit_session.grpc.wirecheck import check_wire

if TYPE_CHECKING:
    from buildkit_session.grpc.envelope import Body, Buffer

__all__ = ["BYTES", "BytesCodec", "Codec", "MessageCodec"]

M = TypeVar("M", bound=betterproto2.Message)
T = TypeVar("T")


class Codec(Protocol[T]):
    """Encodes and decodes one type of message."""

    def encode(self, message: T, /) -> Body:
        """Return the body for the wire; what it refers to must not change afterwards."""
        ...

    def decode(self, body: Buffer, /) -> T:
        """Return the message, which may refer to ``body``.

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

    def decode(self, body: Buffer, /) -> M:
        """See :class:`Codec`."""
        data = bytes(body)
        check_wire(self.message_type, data)
        return self.message_type.parse(data)


class BytesCodec:
    """Messages as they are on the wire; for services that look inside themselves, and for experiments."""

    def encode(self, message: bytes, /) -> bytes:
        """See :class:`Codec`."""
        return message

    def decode(self, body: Buffer, /) -> bytes:
        """See :class:`Codec`."""
        return bytes(body)


BYTES = BytesCodec()
