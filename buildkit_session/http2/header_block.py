"""Header blocks in one piece: HEADERS and its CONTINUATION frames, joined before ``h2`` sees them.

``h2`` takes 64 CONTINUATION frames for an attack, which is a megabyte; the patterns of a long .dockerignore are more.
Here the number of bytes counts, frame headers included, so that empty frames cannot go on for ever either.

Source: RFC 9113, sections 4.3, 6.2 and 6.10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.http2.frames import (
    CONTINUATION,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    HEADER,
    HEADERS,
    PADDED,
    PROTOCOL_ERROR,
    frame_header,
    unpadded,
)

if TYPE_CHECKING:
    from buildkit_session.http2.frames import Frame

__all__ = ["HeaderBlock"]


class HeaderBlock:
    """The header block that is under way, if any.

    Args:
        limit: bytes of a block, at most; below what the length of a frame can say.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._payload = bytearray()
        self._flags = 0
        self._stream_id = 0  # 0 while no block is under way
        self._received = 0

    @property
    def is_open(self) -> bool:
        """Whether only a CONTINUATION may come."""
        return self._stream_id != 0

    def begins_with(self, frame: Frame) -> bool:
        """Take a HEADERS frame that others continue; returns whether it was one."""
        kind, flags, stream_id, wire = frame
        if kind != HEADERS or flags & END_HEADERS or not stream_id:
            return False
        payload = wire[HEADER:]
        self._payload += unpadded(payload) if flags & PADDED else payload
        self._flags = flags & ~PADDED | END_HEADERS
        self._stream_id = stream_id
        self._received = len(wire)
        return True

    def refuse(self) -> NoReturn:
        """Say that another frame came while the block is open."""
        raise RemoteProtocolError("the peer sent another frame within a header block", code=PROTOCOL_ERROR)

    def continue_with(self, frame: Frame) -> bytes | None:
        """Take the next frame; returns the whole block as one HEADERS frame once it has ended.

        Raises:
            RemoteProtocolError: another frame came between, or the block is too long.
        """
        kind, flags, stream_id, wire = frame
        if kind != CONTINUATION or stream_id != self._stream_id:
            self.refuse()
        self._received += len(wire)
        if self._received > self._limit:
            text = f"the peer sent a header block of more than {self._limit} bytes"
            raise RemoteProtocolError(text, code=ENHANCE_YOUR_CALM)
        self._payload += wire[HEADER:]
        if not flags & END_HEADERS:
            return None
        block = frame_header(len(self._payload), HEADERS, self._flags, self._stream_id) + bytes(self._payload)
        self._payload, self._stream_id = bytearray(), 0
        return block
