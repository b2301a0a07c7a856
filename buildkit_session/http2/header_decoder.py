"""The decoder of header blocks, in a time that grows with their length alone.

For each field hpack copies all that is left of the block, three times: a block of 4 MiB with small fields holds the
event loop for seconds. Here it is given one field at a time.

Source: RFC 7541, section 6.2 (literal header field representations).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpack import Decoder
from hpack.hpack import decode_integer

if TYPE_CHECKING:
    from hpack import HeaderTuple

__all__ = ["HeaderDecoder"]


class HeaderDecoder(Decoder):
    """Decodes as its base does; a test holds both to the same results and this one to its time."""

    def _decode_literal(self, data: bytes | memoryview, should_index: bool) -> tuple[HeaderTuple, int]:
        return super()._decode_literal(data[: _length(data, 6 if should_index else 4)], should_index)


def _length(data: bytes | memoryview, prefix: int) -> int:
    """Bytes of the literal field at the beginning; more than there are if it is cut off."""
    index, position = decode_integer(data, prefix)
    for _ in range(1 if index else 2):  # the name, unless it is one of the table, and the value
        size, consumed = decode_integer(data[position:], 7)
        position += consumed + size
    return position
