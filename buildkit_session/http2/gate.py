"""The gate in front of ``h2``: cuts the byte stream into frames and keeps back what ``h2`` must not see.

``h2`` parses HTTP/2 but does not defend itself: it buffers a frame of any announced length before it refuses it, and
it takes any GOAWAY for the end of all streams and drops what is queued, while a peer that says GOAWAY(NO_ERROR) only
asks for no *new* streams (RFC 9113, section 6.8). It remembers every setting there is a number for and walks through
all of them at each SETTINGS frame. So lengths are checked on the nine bytes of the frame header, GOAWAY never reaches
``h2``, and of SETTINGS only what has a meaning.
"""

from __future__ import annotations

from typing import Final

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.http2.events import GoAwayReceived

__all__ = ["PREFACE", "FrameGate"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER = 9
_SETTINGS = 4
_SETTING = 6
_KNOWN_SETTINGS = range(1, 7)
_GOAWAY = 7
_PROTOCOL_ERROR = 1
_FRAME_SIZE_ERROR = 6
_DEBUG_KEPT = 1024


class FrameGate:
    """Passes whole frames on, one by one, so that the reader of each knows the state after all before it.

    Args:
        max_frame: largest accepted frame payload, in bytes.
        expect_preface: whether the peer is a client, whose first 24 bytes are the connection preface.
    """

    def __init__(self, *, max_frame: int, expect_preface: bool) -> None:
        self._buffer = bytearray()
        self._max_frame = max_frame
        self._preface_left = PREFACE if expect_preface else b""

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes | GoAwayReceived]:
        """Take bytes and return the frames that became whole, in order: bytes for ``h2``, a GOAWAY as an event.

        Raises:
            RemoteProtocolError: a wrong preface, a frame longer than allowed, or a malformed GOAWAY.
        """
        self._buffer += data
        self._take_preface()
        frames: list[bytes | GoAwayReceived] = []
        position = 0
        while (end := self._frame_end(position)) is not None:
            frames.append(_filtered(bytes(memoryview(self._buffer)[position:end])))
            position = end
        del self._buffer[:position]
        return frames

    def _take_preface(self) -> None:
        """Remove as much of the preface as has arrived, which may be any part of it."""
        length = min(len(self._preface_left), len(self._buffer))
        if self._buffer[:length] != self._preface_left[:length]:
            raise RemoteProtocolError("the peer does not speak HTTP/2: wrong connection preface", code=_PROTOCOL_ERROR)
        self._preface_left = self._preface_left[length:]
        del self._buffer[:length]

    def _frame_end(self, position: int) -> int | None:
        """The offset after the frame at ``position``, or ``None`` while bytes are missing."""
        if len(self._buffer) - position < _HEADER:
            return None
        length = int.from_bytes(self._buffer[position : position + 3], "big")
        if length > self._max_frame:
            message = f"the peer announced a frame of {length} bytes, {self._max_frame} are allowed"
            raise RemoteProtocolError(message, code=_FRAME_SIZE_ERROR)
        end = position + _HEADER + length
        return end if end <= len(self._buffer) else None


def _filtered(frame: bytes) -> bytes | GoAwayReceived:
    if frame[3] == _GOAWAY:
        return _parse_goaway(frame)
    if frame[3] == _SETTINGS:
        return _known_settings(frame)
    return frame


def _known_settings(frame: bytes) -> bytes:
    """Drop settings without a meaning, as RFC 9113, section 6.5.2 wants it; what is malformed stays so."""
    entries = [frame[start : start + _SETTING] for start in range(_HEADER, len(frame), _SETTING)]
    known = b"".join(
        entry for entry in entries if len(entry) < _SETTING or int.from_bytes(entry[:2], "big") in _KNOWN_SETTINGS
    )
    return len(known).to_bytes(3, "big") + frame[3:_HEADER] + known


def _parse_goaway(frame: bytes) -> GoAwayReceived:
    """Source: RFC 9113, section 6.8."""
    if len(frame) < _HEADER + 8:
        raise RemoteProtocolError("the peer sent a GOAWAY frame that is too short", code=_FRAME_SIZE_ERROR)
    if int.from_bytes(frame[5:9], "big") & 0x7FFFFFFF:
        raise RemoteProtocolError("the peer sent a GOAWAY frame on a stream", code=_PROTOCOL_ERROR)
    last = int.from_bytes(frame[9:13], "big") & 0x7FFFFFFF
    return GoAwayReceived(int.from_bytes(frame[13:17], "big"), last, frame[17 : 17 + _DEBUG_KEPT])
