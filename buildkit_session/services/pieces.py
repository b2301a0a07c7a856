"""The pieces of an exported file as bytes, quickly.

As for packets (:mod:`buildkit_session.fsutil.wire`): a piece that is content and nothing else is dealt with here,
everything else is left to the general codec, and a property test holds both to the same results.

Source: moby/buildkit:session/filesync/filesync.proto (BytesMessage).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from buildkit_session.grpc.codec import MessageCodec
from buildkit_session.grpc.router import Codecs
from buildkit_session.grpc.varint import encode_varint, read_varint
from buildkit_session.messages.moby.filesync.v1 import BytesMessage

if TYPE_CHECKING:
    from buildkit_session.grpc.envelope import Body, Buffer

__all__ = ["CODECS", "PIECES", "PieceCodec"]

_DATA: Final = 0x0A


class PieceCodec:
    """The :class:`~buildkit_session.grpc.codec.Codec` of ``BytesMessage``."""

    def __init__(self) -> None:
        self._general = MessageCodec(BytesMessage)

    def __repr__(self) -> str:
        return "<PieceCodec>"

    def encode(self, message: BytesMessage, /) -> Body:
        """See :class:`~buildkit_session.grpc.codec.Codec`."""
        if message._unknown_fields or not message.data:
            return self._general.encode(message)
        return b"\x0a" + encode_varint(len(message.data)), message.data

    def decode(self, body: Buffer, /) -> BytesMessage:
        """See :class:`~buildkit_session.grpc.codec.Codec`. The ``data`` may be a :class:`memoryview` of ``body``."""
        try:
            length, position = read_varint(body, 1)
        except (IndexError, OverflowError):
            return self._general.decode(body)
        if body[0] != _DATA or position + length != len(body):
            return self._general.decode(body)
        return BytesMessage(cast("bytes", memoryview(body)[position:]))


PIECES: Final = PieceCodec()

CODECS: Final = Codecs(PIECES, PIECES)
