"""Request metadata: an ordered multi-map.

Repeated keys keep their order and are never joined: for BuildKit the order of patterns is their meaning.

Source: grpc/grpc:doc/PROTOCOL-HTTP2.md (Custom-Metadata).
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING

from buildkit_session.errors import RpcError
from buildkit_session.grpc.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Metadata", "is_grpc"]

_RESERVED = frozenset((b"te", b"content-type", b"user-agent", b"host"))
_GRPC = b"application/grpc"


def is_grpc(content_type: bytes) -> bool:
    """Whether this is the content-type of a gRPC request or response, whatever its messages are.

    Source: grpc/grpc:doc/PROTOCOL-HTTP2.md (Content-Type).
    """
    return content_type == _GRPC or content_type.startswith((_GRPC + b"+", _GRPC + b";"))


class Metadata:
    """The custom metadata of one call. Keys are lower-case ASCII; text values may hold surrogate escapes."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._fields = tuple(
            (name.decode("latin-1"), value)
            for name, value in fields
            if not name.startswith((b":", b"grpc-")) and name not in _RESERVED
        )

    def __repr__(self) -> str:
        return f"<Metadata keys={sorted({name for name, _ in self._fields})}>"

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys in order of arrival, repeated ones repeatedly."""
        return (name for name, _ in self._fields)

    def get(self, key: str, default: str | None = None) -> str | None:
        """The first value of a key."""
        return next(iter(self.get_all(key)), default)

    def get_all(self, key: str) -> list[str]:
        """All values of a key in order."""
        return [value.decode("utf-8", "surrogateescape") for name, value in self._fields if name == key]

    def get_binary(self, key: str) -> list[bytes]:
        """All values of a ``-bin`` key, decoded from base64, padded or not, comma-joined or repeated.

        Raises:
            RpcError: INVALID_ARGUMENT, a value is not base64.
        """
        parts = [part.strip() for name, value in self._fields if name == key for part in value.split(b",")]
        try:
            return [b64decode(part + b"=" * (-len(part) % 4), validate=True) for part in parts]
        except binascii.Error as error:
            raise RpcError(Status.INVALID_ARGUMENT, f"metadata {key} is not base64") from error
