"""gRPC status: the codes, and how a status travels in trailers.

Source: grpc/grpc:doc/statuscodes.md, doc/PROTOCOL-HTTP2.md (Responses, Errors), doc/http-grpc-status-mapping.md.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from enum import IntEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from buildkit_session.errors import RpcError

if TYPE_CHECKING:
    from buildkit_session.errors import StreamReset
    from buildkit_session.http2.events import Headers

__all__ = [
    "Status",
    "decode_message",
    "encode_message",
    "status_of_http",
    "status_of_reset",
    "status_of_trailers",
    "status_trailers",
]

MAX_MESSAGE: Final = 4096
"""Bytes of encoded status text that are sent; with ``MAX_DETAILS`` below the 8 KiB of headers a peer may insist on."""

MAX_DETAILS: Final = 2048
"""Bytes of status details that are sent, before base64; longer ones are left out, for half of them means nothing."""

MAX_TEXT: Final = 64 * 1024
"""Characters of a peer's status text that are kept. BuildKit repeats the whole command of a step that failed."""

_CODE: Final = re.compile(rb"[0-9]{1,9}")
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


# By HTTP/2 error code; all others are INTERNAL.
_OF_RESET: Final = {
    7: Status.UNAVAILABLE,  # REFUSED_STREAM: nothing was done
    8: Status.CANCELLED,
    11: Status.RESOURCE_EXHAUSTED,  # ENHANCE_YOUR_CALM
    12: Status.PERMISSION_DENIED,  # INADEQUATE_SECURITY
}
# By HTTP status; all others are UNKNOWN.
_OF_HTTP: Final = {
    b"400": Status.INTERNAL,
    b"401": Status.UNAUTHENTICATED,
    b"403": Status.PERMISSION_DENIED,
    b"404": Status.UNIMPLEMENTED,
    b"429": Status.UNAVAILABLE,
    b"502": Status.UNAVAILABLE,
    b"503": Status.UNAVAILABLE,
    b"504": Status.UNAVAILABLE,
}


def status_of_reset(reset: StreamReset) -> RpcError:
    """What a stream that the server has reset means for the call."""
    return RpcError(_OF_RESET.get(reset.code, Status.INTERNAL), f"the server gave the call up: {reset}")


def status_of_http(headers: Headers) -> RpcError | None:
    """What the headers of a response say that no gRPC server would, or ``None``."""
    fields = dict(headers)
    status, kind = fields.get(b":status", b""), fields.get(b"content-type", b"")
    if status == b"200" and kind.startswith(b"application/grpc"):
        return None
    if b"grpc-status" in fields:
        return None  # a proxy may answer so for its server
    text = f"the answer is not gRPC: HTTP status {status.decode('latin-1')}, content-type {kind[:80]!r}"
    return RpcError(_OF_HTTP.get(status, Status.UNKNOWN), text)


def status_of_trailers(trailers: Headers) -> RpcError:
    """The status that ends a call; one of OK is returned as well. What is missing or unreadable is UNKNOWN."""
    fields = dict(trailers)
    code = fields.get(b"grpc-status")
    if code is None:
        return RpcError(Status.UNKNOWN, "the server ended the call without a status")
    if not _CODE.fullmatch(code):
        return RpcError(Status.UNKNOWN, f"the server ended the call with the unreadable status {code[:20]!r}")
    message = decode_message(fields.get(b"grpc-message", b""))[:MAX_TEXT]
    return RpcError(int(code), message, details=_details(fields.get(b"grpc-status-details-bin", b"")))


def _details(value: bytes) -> bytes:
    try:
        return b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return b""
