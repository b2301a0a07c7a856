"""Numbers as protobuf writes them, for the codecs that are written by hand.

Source: protobuf.dev, "Encoding" (Base 128 Varints).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from buildkit_session.grpc.envelope import Buffer

__all__ = ["encode_varint", "read_varint"]

_ONE_BYTE: Final = tuple(bytes((value,)) for value in range(0x80))


def encode_varint(value: int) -> bytes:
    """Encode a number that is not negative: 7 bits a byte, the least first, the top bit set in all but the last.

    The branches for certain sizes only do faster what the loop at the end does for any.
    """
    if value < 1 << 7:
        return _ONE_BYTE[value]
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 1 << 21:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    if 1 << 56 <= value < 1 << 63:  # a time, in ns; halved, as arithmetic on numbers below 2**30 is quicker
        low, high = value & 0xFFF_FFFF, value >> 28
        return bytes((
            low & 0x7F | 0x80, low >> 7 & 0x7F | 0x80, low >> 14 & 0x7F | 0x80, low >> 21 | 0x80,
            high & 0x7F | 0x80, high >> 7 & 0x7F | 0x80, high >> 14 & 0x7F | 0x80, high >> 21 & 0x7F | 0x80, high >> 28,
        ))  # fmt: skip
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(body: Buffer, position: int) -> tuple[int, int]:
    """Decode the number at ``position``.

    Returns:
        The number, below 2**63, and the position after it.

    Raises:
        IndexError: it is cut off.
        OverflowError: it has more than nine bytes, as negative numbers have.
    """
    value = body[position]
    position += 1
    if value < 0x80:
        return value, position
    value &= 0x7F
    shift = 7
    while shift < 63:
        byte = body[position]
        position += 1
        if byte < 0x80:
            return value | byte << shift, position
        value |= (byte & 0x7F) << shift
        shift += 7
    msg = f"the number before offset {position} has more than nine bytes"
    raise OverflowError(msg)
