"""The details of a gRPC status: typed values beside its code and text.

Owns the way from the trailer to the values; what a value means is the business of whoever knows its type.

The peer is not trusted, and an error that cannot be read must not hide the error that it describes. So nothing here
raises: what is malformed ends the list, and the list is bounded.

Source: grpc/grpc:doc/PROTOCOL-HTTP2.md (Status-Details, Binary-Header); googleapis/googleapis:google/rpc/status.proto;
protobuf.dev, "Encoding".
"""

from __future__ import annotations

from base64 import b64decode
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from buildkit_session.grpc.varint import read_varint

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Detail", "decode_trailer", "read_details"]

MAX_DETAILS: Final = 256
"""Read of one status. BuildKit sends about ten; a detail can be as short as two bytes, and a trailer long."""

_DETAILS: Final = 3  # of google.rpc.Status
_TYPE_URL, _VALUE = 1, 2  # of google.protobuf.Any

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}


class Detail(NamedTuple):
    """One detail of a status, not interpreted.

    Attributes:
        type_url: the name of its type, decoded with replacement. BuildKit's lack the usual ``type.googleapis.com/``.
        value: serialized as the type says.
    """

    type_url: str
    value: bytes


def decode_trailer(value: bytes) -> bytes:
    """Decode the value of ``grpc-status-details-bin``: base64, padded or not.

    Returns:
        A serialized ``google.rpc.Status``; empty when the value is not base64.
    """
    value = value.strip().rstrip(b"=")
    try:
        return b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except ValueError:
        return b""


def read_details(status: bytes) -> tuple[Detail, ...]:
    """Read the details of a serialized ``google.rpc.Status``, such as that of an ``RpcError``.

    Returns:
        At most ``MAX_DETAILS``, in the order of the message; those before the first that is malformed.
    """
    return tuple(islice(_details(status), MAX_DETAILS))


def _details(status: bytes) -> Iterator[Detail]:
    with suppress(ValueError, IndexError, OverflowError):
        for number, value in _fields(status):
            if number == _DETAILS:
                yield _detail(value)


def _detail(value: bytes) -> Detail:
    fields = dict(_fields(value))  # of a field that was sent more than once the last counts
    return Detail(fields.get(_TYPE_URL, b"").decode("utf-8", "replace"), fields.get(_VALUE, b""))


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each field that has a length, and pass over all others.

    Raises:
        ValueError: a content is cut off, or no message has such a field.
        IndexError: a number is cut off.
        OverflowError: a number is too large.
    """
    position = 0
    while position < len(message):
        key, position = read_varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _LENGTH:
            length, position = read_varint(message, position)
            if position + length > len(message):
                raise ValueError(number)
            yield number, message[position : position + length]
            position += length
        elif kind == _VARINT:
            _, position = read_varint(message, position)
        elif kind in _FIXED:
            position += _FIXED[kind]
        else:
            raise ValueError(kind)
