"""Whether bytes are a well-formed protobuf message of a given type: the check that betterproto2 leaves out.

Its parser takes a string that is cut off for a shorter one, a number where a string belongs for that string, and
the marks of groups for values that are ``None``. From a peer that is not trusted all of these must be errors,
before a handler sees attributes of the wrong type.

Source: protobuf.dev, "Encoding" (wire types, message structure); betterproto2:betterproto2/__init__.py (load_fields).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import betterproto2

if TYPE_CHECKING:
    from betterproto2 import FieldMetadata, Message

__all__ = ["check_wire"]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

_WIRE_TYPES: dict[str, int] = {
    **dict.fromkeys(betterproto2.WIRE_VARINT_TYPES, _VARINT),
    **dict.fromkeys(betterproto2.WIRE_FIXED_64_TYPES, _FIXED64),
    **dict.fromkeys(betterproto2.WIRE_LEN_DELIM_TYPES, _LENGTH),
    **dict.fromkeys(betterproto2.WIRE_FIXED_32_TYPES, _FIXED32),
}

MAX_FIELDS: Final = 300_000
"""Values in one message, those of messages inside of it included. A value can be two bytes on the wire and a thousand
in memory, and what decodes it holds the event loop for some seconds above this."""

# As in Google's own parsers (google/protobuf/io/coded_stream.h, default recursion limit).
_MAX_DEPTH = 100


def check_wire(message_type: type[Message], data: bytes) -> None:
    """Check that ``data`` is a whole message whose known fields have the wire types of ``message_type``.

    Linear in the length of ``data``. Text is not checked to be UTF-8: the parser does that.

    Raises:
        ValueError: it is not, and the text names the field number and the offset; or it holds more than ``MAX_FIELDS``
            values.
    """
    _check(message_type, data, 0, len(data), _MAX_DEPTH, room=MAX_FIELDS)


def _check(message_type: type[Message], data: bytes, position: int, end: int, depth: int, *, room: int) -> int:
    """Check a part of ``data``; returns how many of the values that there is ``room`` for are left."""
    if depth == 0:
        msg = f"messages are nested more than {_MAX_DEPTH} deep"
        raise ValueError(msg)
    # Not public, but the only way to the field table; mypy cannot follow its descriptor.
    schema = message_type._betterproto  # type: ignore[arg-type]
    while position < end:
        if not room:
            msg = f"the message holds more than {MAX_FIELDS} values"
            raise ValueError(msg)
        room -= 1
        start = position
        key, position = _read_varint(data, position, end)
        number, wire_type = key >> 3, key & 7
        body, position = _skip_value(data, position, end, wire_type)
        name = schema.field_name_by_number.get(number)
        if name is None:
            continue
        field = schema.meta_by_field_name[name]
        if not _fits(field, wire_type):
            msg = f"field {number} at offset {start} has wire type {wire_type}, which a {field.proto_type} never has"
            raise ValueError(msg)
        if field.proto_type in {betterproto2.TYPE_MESSAGE, betterproto2.TYPE_MAP}:
            inner = field.unwrap() if field.unwrap else schema.cls_by_field[name]
            room = _check(inner, data, body, position, depth - 1, room=room)
    return room


def _fits(field: FieldMetadata, wire_type: int) -> bool:
    packed = wire_type == _LENGTH and bool(field.repeated) and field.proto_type in betterproto2.PACKED_TYPES
    return packed or wire_type == _WIRE_TYPES[field.proto_type]


def _skip_value(data: bytes, position: int, end: int, wire_type: int) -> tuple[int, int]:
    """Return where the value's content begins and where it ends."""
    start = position
    match wire_type:
        case 0:  # _VARINT
            _, position = _read_varint(data, position, end)
        case 1:  # _FIXED64
            position += 8
        case 2:  # _LENGTH
            length, start = _read_varint(data, position, end)
            position = start + length
        case 5:  # _FIXED32
            position += 4
        case _:
            msg = f"wire type {wire_type} at offset {start} is not used by any message here"
            raise ValueError(msg)
    if position > end:
        msg = f"the value at offset {start} is cut off: it ends {position - end} bytes after the message"
        raise ValueError(msg)
    return start, position


def _read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):  # ten bytes hold 64 bits
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    msg = f"a number that ends at offset {position} is cut off or longer than 64 bits"
    raise ValueError(msg)
