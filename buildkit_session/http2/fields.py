"""Whether the header fields of a request or a response are well-formed.

``h2`` could tell, but it ends the connection over one malformed request, and over values with outer spaces, which
grpc-go sends verbatim (a ``COPY`` of ``" a "``). Here the fault is one stream's, and outer spaces pass.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from buildkit_session.http2.events import Headers

__all__ = ["request_fault", "response_fault", "trailers_fault"]

_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED: Final = (b":method", b":scheme", b":path")
_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VISIBLE: Final = re.compile(rb"[!-~]*")
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}")
_LINE_BREAK: Final = re.compile(rb"[\r\n\0]")


def request_fault(headers: Headers) -> str | None:
    """Say what is wrong with a request's fields, or ``None`` when nothing is.

    Source: RFC 9113, sections 8.2 and 8.3.
    """
    pseudo: dict[bytes, bytes] = {}
    regular = False
    for name, value in headers:
        if name.startswith(b":"):
            if regular or name in pseudo or name not in _PSEUDO or not _VISIBLE.fullmatch(value):
                return f"the pseudo-header {name[:40]!r} is misplaced, repeated, unknown or malformed"
            pseudo[name] = value
        else:
            regular = True
            if not _is_allowed(name, value):
                return f"the field {name[:40]!r} is malformed or belongs to another version of HTTP"
            if name == b"host" and pseudo.get(b":authority", value) != value:
                return "host and :authority differ"
    missing = [name for name in _REQUIRED if not pseudo.get(name)]
    return f"{missing[0]!r} is missing" if missing else None


def response_fault(headers: Headers) -> str | None:
    """Say what is wrong with the fields of a response, or ``None`` when nothing is.

    Source: RFC 9113, sections 8.2 and 8.3.2.
    """
    if not headers or headers[0][0] != b":status" or not _STATUS.fullmatch(headers[0][1]):
        return "the response has no status"
    return trailers_fault(headers[1:])


def trailers_fault(headers: Headers) -> str | None:
    """The same for what may hold no pseudo-header: trailers, which may also be none.

    Source: RFC 9113, section 8.1.
    """
    for name, value in headers:
        if not _is_allowed(name, value):
            return f"the field {name[:40]!r} is malformed, misplaced or belongs to another version of HTTP"
    return None


def _is_allowed(name: bytes, value: bytes) -> bool:
    if name in _CONNECTION_SPECIFIC or not _NAME.fullmatch(name) or _LINE_BREAK.search(value):
        return False
    return name != b"te" or value == b"trailers"
