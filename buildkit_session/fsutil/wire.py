"""The packets of DiffCopy as bytes, quickly.

A transfer has a packet for every entry and every piece of content, and the general codec spends up to 60 us on each.
The codec here writes and reads the packets that a transfer is made of by itself. Whatever is unusual about a packet
(extended attributes, a time before 1970, an unknown field, anything malformed) leaves it to the general codec, which
so decides what is accepted and what it means; a property test holds both to the same results.

Source: protobuf.dev, "Encoding"; tonistiigi/fsutil:types/wire.proto, stat.proto.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from buildkit_session.grpc.codec import MessageCodec
from buildkit_session.grpc.varint import encode_varint, read_varint
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat

if TYPE_CHECKING:
    from buildkit_session.grpc.envelope import Body, Buffer

__all__ = ["PACKETS", "SMALL", "PacketCodec"]

# A field is a key and a value. The key is the number of the field * 8, + 0 for a number, + 2 for bytes after their
# length. What has its default value is left out, so the end of a listing has no byte at all.
_TYPE: Final = 0x08
_STAT: Final = 0x12
_ID: Final = 0x18
_DATA: Final = 0x22

_STAT_STRINGS: Final = (0x0A, 0x3A)  # path, linkname
_STAT_NUMBERS: Final = frozenset((0x10, 0x18, 0x20, 0x28, 0x30, 0x40, 0x48))

_TYPES: Final = tuple(PacketPacketType)
_CONTENT: Final = PacketPacketType.PACKET_DATA.value
_TYPE_FIELDS: Final = (b"", b"\x08\x01", b"\x08\x02", b"\x08\x03", b"\x08\x04")

_UINT32_MAX: Final = 0xFFFF_FFFF


SMALL: Final = 8 * 1024
"""Bytes of content that cost less to copy than to send in a piece of their own."""


class PacketCodec:
    """The :class:`~buildkit_session.grpc.codec.Codec` of packets. Large content is never copied, either way."""

    def __init__(self) -> None:
        self._general = MessageCodec(Packet)

    def __repr__(self) -> str:
        return "<PacketCodec>"

    def encode(self, packet: Packet, /) -> Body:
        """See :class:`~buildkit_session.grpc.codec.Codec`."""
        try:
            return _encode(packet)
        except _UnusualError:
            return self._general.encode(packet)

    def decode(self, body: Buffer, /) -> Packet:
        """See :class:`~buildkit_session.grpc.codec.Codec`.

        The ``data`` of a DATA packet may be a :class:`memoryview` of ``body``.
        """
        try:
            return _decode(body)
        except (_UnusualError, IndexError, OverflowError):
            return self._general.decode(body)


PACKETS: Final = PacketCodec()


class _UnusualError(Exception):
    """The general codec has to look at this."""


# --- encoding ---------------------------------------------------------------------------------------------------------


def _encode(packet: Packet) -> Body:
    kind, stat, number, data = packet.type, packet.stat, packet.id, packet.data
    if packet._unknown_fields or number < 0 or not 0 <= kind < len(_TYPE_FIELDS):
        raise _UnusualError
    header = _TYPE_FIELDS[kind]
    if stat is not None:
        fields = _encode_stat(stat)
        header += b"\x12" + encode_varint(len(fields)) + fields
    if number:
        header += b"\x18" + encode_varint(number)
    if not data:
        return header
    header += b"\x22" + encode_varint(len(data))
    return (header, data) if len(data) > SMALL else header + data


def _encode_stat(stat: Stat) -> bytes:
    path, mode, size, mod_time, linkname = stat.path, stat.mode, stat.size, stat.mod_time, stat.linkname
    if stat.xattrs or stat._unknown_fields or mode < 0 or size < 0 or mod_time < 0:
        raise _UnusualError
    fields = b"\x0a" + encode_varint(len(path)) + path if path else b""
    if mode:
        fields += _mode_field(mode)
    if stat.uid or stat.gid:
        fields += _number_field(b"\x18", stat.uid) + _number_field(b"\x20", stat.gid)
    if size:
        fields += b"\x28" + encode_varint(size)
    if mod_time:
        fields += b"\x30" + encode_varint(mod_time)
    if linkname:
        fields += b"\x3a" + encode_varint(len(linkname)) + linkname
    if stat.devmajor or stat.devminor:
        fields += _number_field(b"\x40", stat.devmajor) + _number_field(b"\x48", stat.devminor)
    return fields


def _number_field(key: bytes, value: int) -> bytes:
    if value < 0:
        raise _UnusualError
    return key + encode_varint(value) if value else b""


@lru_cache(maxsize=64)
def _mode_field(mode: int) -> bytes:
    """The field of a mode; a tree has few different ones."""
    return _number_field(b"\x10", mode)


# --- decoding ---------------------------------------------------------------------------------------------------------


def _decode(body: Buffer) -> Packet:
    if not body:
        return Packet()
    if body[0] == _STAT:
        return Packet(_TYPES[0], _decode_stat(bytes(body)), 0, b"")
    kind = body[1]
    if body[0] != _TYPE or kind >= len(_TYPES):
        raise _UnusualError
    position, end, number = 2, len(body), 0
    if position < end and body[position] == _ID:
        number, position = read_varint(body, position + 1)
        if number > _UINT32_MAX:
            raise _UnusualError
    if position == end:
        return Packet(_TYPES[kind], None, number, b"")
    if body[position] != _DATA:
        raise _UnusualError
    length, position = read_varint(body, position + 1)
    if position + length != end:
        raise _UnusualError
    if kind != _CONTENT:
        return Packet(_TYPES[kind], None, number, bytes(body[position:]))
    # Whoever takes content takes it in this form too.
    return Packet(_TYPES[kind], None, number, cast("bytes", memoryview(body)[position:]))


def _decode_stat(body: bytes) -> Stat:
    """Decode a body that is the key of an entry and then nothing but the entry."""
    length, position = read_varint(body, 1)
    end = len(body)
    if position + length != end:
        raise _UnusualError
    # By the number of the field, less 1. Later fields replace earlier ones, so their order does not matter.
    values: list[Any] = [b"", 0, 0, 0, 0, 0, b"", 0, 0]
    while position < end:
        key = body[position]
        value, position = read_varint(body, position + 1)
        if key in _STAT_NUMBERS:
            values[(key >> 3) - 1] = value
        elif key in _STAT_STRINGS:
            start, position = position, position + value
            values[(key >> 3) - 1] = body[start:position]
        else:
            raise _UnusualError
    _, mode, uid, gid, *_ = values
    if position > end or mode > _UINT32_MAX or uid > _UINT32_MAX or gid > _UINT32_MAX:
        raise _UnusualError
    return Stat(*values)
