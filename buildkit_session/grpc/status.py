"""gRPC status: the codes, and how a status travels in trailers.

Source: grpc/grpc:doc/statuscodes.md and doc/PROTOCOL-HTTP2.md (Responses).
"""

from __future__ import annotations

from base64 import b64encode
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from buildkit_session.http2.events import Headers

__all__ = ["Status", "decode_message", "encode_message", "status_trailers"]

MAX_MESSAGE: Final = 4096
"""Bytes of status text that are sent, before encoding. Peers may refuse trailers over 8 KiB."""


class Status(IntEnum):
    """A gRPC status code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


def encode_message(text: str) -> bytes:
    """Percent-encode a status text: UTF-8, every byte outside 0x20-0x7E and ``%`` itself.

    A text above ``MAX_MESSAGE`` bytes is cut.
    """
    raw = text.encode("utf-8", "replace")[:MAX_MESSAGE]
    return b"".join(b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in raw)


def decode_message(value: bytes) -> str:
    """Decode a status text; what is not a valid escape stands for itself."""
    pieces = value.split(b"%")
    raw = bytearray(pieces[0])
    for piece in pieces[1:]:
        try:
            raw += bytes((int(piece[:2], 16),)) + piece[2:] if len(piece) >= 2 else b"%" + piece
        except ValueError:
            raw += b"%" + piece
    return raw.decode("utf-8", "replace")


def status_trailers(code: int, message: str = "", details: bytes = b"") -> Headers:
    """The trailers that carry a status; ``details`` is a serialized ``google.rpc.Status`` or empty."""
    trailers = [(b"grpc-status", b"%d" % code)]
    if message:
        trailers.append((b"grpc-message", encode_message(message)))
    if details:
        trailers.append((b"grpc-status-details-bin", b64encode(details)))
    return trailers
