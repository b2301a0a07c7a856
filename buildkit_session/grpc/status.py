"""gRPC status: the codes, and how a status travels in trailers.

What a client makes of a response is in :mod:`~buildkit_session.grpc.outcome`.

Source: grpc/grpc:doc/statuscodes.md, doc/PROTOCOL-HTTP2.md (Responses).
"""

from __future__ import annotations

import re
from base64 import b64encode
from enum import IntEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from buildkit_session.http2.events import Headers

__all__ = ["Status", "decode_message", "encode_message", "status_trailers"]

MAX_MESSAGE: Final = 4096
"""Bytes of encoded status text that are sent; with ``MAX_DETAILS`` below the 8 KiB of headers a peer may insist on."""

MAX_DETAILS: Final = 2048
"""Bytes of status details that are sent, before base64; longer ones are left out, for half of them means nothing."""

_PLAIN: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


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

    A text that would be longer than ``MAX_MESSAGE`` bytes is cut between two characters: Go does not pass on a text
    that is not UTF-8.
    """
    encoded = bytearray()
    for character in text[:MAX_MESSAGE]:
        piece = quote(character, safe=_PLAIN, errors="replace").encode()
        if len(encoded) + len(piece) > MAX_MESSAGE:
            break
        encoded += piece
    return bytes(encoded)


def decode_message(value: bytes) -> str:
    """Decode a status text; what is not a valid escape stands for itself."""
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), value).decode("utf-8", "replace")


def status_trailers(code: int, message: str = "", details: bytes = b"") -> Headers:
    """The trailers that carry a status; ``details`` is a serialized ``google.rpc.Status`` or empty."""
    trailers = [(b"grpc-status", b"%d" % code)]
    if message:
        trailers.append((b"grpc-message", encode_message(message)))
    if 0 < len(details) <= MAX_DETAILS:
        trailers.append((b"grpc-status-details-bin", b64encode(details)))
    return trailers
