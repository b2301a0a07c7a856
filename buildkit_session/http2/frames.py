"""Frames as bytes: the header's layout, the numbers used here, and the frames that are made without ``h2``.

Source: RFC 9113, sections 4.1 and 6.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeAlias

from buildkit_session.errors import RemoteProtocolError

__all__ = ["Buffer", "Frame", "Run", "frame_header", "unpack_header", "unpadded", "window_update"]

Buffer: TypeAlias = bytes | bytearray | memoryview

HEADER: Final = 9
"""Bytes in front of every payload."""

DATA: Final = 0
HEADERS: Final = 1
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

PING_SIZE: Final = 8

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
FLOW_CONTROL_ERROR: Final = 3
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
ENHANCE_YOUR_CALM: Final = 11

STREAM_ID: Final = 0x7FFFFFFF
"""The bits of a stream's number; the one above them has no meaning."""

LAYOUT: Final = Struct(">HBBBI")  # a length of 24 bits as two numbers, type, flags, stream
TERSE_LAYOUT: Final = Struct(">HBHI")  # the same with type and flags as one number: 0 for DATA without flags
_UPDATE: Final = Struct(">HBBBII")


Frame: TypeAlias = tuple[int, int, int, memoryview]
"""A whole frame: type, flags, stream, and all its bytes, header included. They may be lent: copy what is to be kept.

A plain tuple, as a named one takes longer to make than all that is done with a frame of payload.
"""


class Run:
    """DATA frames without flags of one stream, one behind the other. Most of a transfer is this.

    Attributes:
        stream_id: the stream's number.
        pieces: the payload of each frame, lent as that of any frame.
    """

    __slots__ = ("pieces", "stream_id")

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.pieces: list[memoryview] = []


def unpack_header(data: Buffer, position: int = 0) -> tuple[int, int, int, int]:
    """Return payload length, type, flags and stream number of the header at ``position``."""
    high, low, kind, flags, stream_id = LAYOUT.unpack_from(data, position)
    return high << 8 | low, kind, flags, stream_id & STREAM_ID


def frame_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The header of a frame with ``length`` bytes of payload."""
    return LAYOUT.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def window_update(increment: int, stream_id: int) -> bytes:
    """A whole WINDOW_UPDATE frame; stream 0 is the connection."""
    return _UPDATE.pack(0, 4, WINDOW_UPDATE, 0, stream_id, increment)


def unpadded(payload: memoryview) -> memoryview:
    """The payload of a padded DATA or HEADERS frame without its padding.

    Raises:
        RemoteProtocolError: the padding is longer than the payload.

    Source: RFC 9113, section 6.1.
    """
    if not payload or payload[0] >= len(payload):
        raise RemoteProtocolError("the peer sent a frame with more padding than payload", code=PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]
