"""How a call has ended, by what its server has sent or not sent.

Success is an explicit ``grpc-status: 0`` in an answer that is gRPC, and nothing else: an answer that breaks off, an
error page of a proxy, a status that is missing, unreadable or there twice are all failures.

Source: grpc/grpc:doc/PROTOCOL-HTTP2.md (Responses, Errors), doc/http-grpc-status-mapping.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import RpcError
from buildkit_session.grpc.details import decode_trailer
from buildkit_session.grpc.metadata import is_grpc
from buildkit_session.grpc.status import Status, decode_message

if TYPE_CHECKING:
    from buildkit_session.errors import StreamReset
    from buildkit_session.http2.events import Headers

__all__ = ["fault_of_response", "status_of_reset", "status_of_trailers"]

MAX_TEXT: Final = 64 * 1024
"""Characters of a server's status text that are kept. BuildKit repeats the whole command of a step that failed."""

_CODE: Final = re.compile(rb"0|[1-9][0-9]{0,8}")
_LONGEST_CHARACTER: Final = 12  # four bytes, percent-encoded

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


def fault_of_response(headers: Headers) -> RpcError | None:
    """What the headers of a response say that no gRPC server would, or ``None``.

    A proxy that answers for its server may say which gRPC status it means, but not that all is well.
    """
    fields = dict(headers)
    http, kind = fields.get(b":status", b""), fields.get(b"content-type", b"")
    if http == b"200" and is_grpc(kind):
        return None
    if b"grpc-status" in fields and (status := status_of_trailers(headers)).code != Status.OK:
        return status
    text = f"the answer is not gRPC: HTTP status {http.decode('latin-1')}, content-type {kind[:80]!r}"
    return RpcError(_OF_HTTP.get(http, Status.UNKNOWN), text)


def status_of_trailers(trailers: Headers) -> RpcError:
    """The status that ends a call; one of OK is returned as well. What is missing or unreadable is UNKNOWN."""
    codes = [value for name, value in trailers if name == b"grpc-status"]
    if not codes:
        return RpcError(Status.UNKNOWN, "the server ended the call without a status")
    if len(codes) > 1 or not _CODE.fullmatch(codes[0]):
        text = b", ".join(codes)[:40]
        return RpcError(Status.UNKNOWN, f"the server ended the call with the unreadable status {text!r}")
    fields = dict(trailers)
    message = decode_message(fields.get(b"grpc-message", b"")[: MAX_TEXT * _LONGEST_CHARACTER])[:MAX_TEXT]
    return RpcError(int(codes[0]), message, details=decode_trailer(fields.get(b"grpc-status-details-bin", b"")))


def status_of_reset(reset: StreamReset, *, expired: bool = False) -> RpcError:
    """What it means for a call that its stream was reset.

    Args:
        reset: of the server, or of this side because of what the server has sent.
        expired: whether the call's deadline has passed. The server keeps it too, and may be first to cancel the call.
    """
    if reset.by != "peer":
        return RpcError(Status.INTERNAL, f"the answer is malformed: {reset}")
    code = _OF_RESET.get(reset.code, Status.INTERNAL)
    if expired and code == Status.CANCELLED:
        code = Status.DEADLINE_EXCEEDED
    return RpcError(code, f"the server gave the call up: {reset}")
