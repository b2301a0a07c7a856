"""The gate in front of ``h2``: cuts the byte stream into frames and keeps back what ``h2`` must not see.

``h2`` parses HTTP/2 but does not defend itself: it buffers a frame of any announced length before it refuses it, and
it takes any GOAWAY for the end of all streams and drops what is queued, while a peer that says GOAWAY(NO_ERROR) only
asks for no *new* streams (RFC 9113, section 6.8). So lengths are checked on the nine bytes of the frame header,
and GOAWAY never reaches ``h2``.
"""

from __future__ import annotations

from typing import Final

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.http2.events import GoAwayReceived

__all__ = ["FrameGate"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER = 9
_GOAWAY = 7
_PROTOCOL_ERROR = 1
_FRAME_SIZE_ERROR = 6
_DEBUG_KEPT = 1024


class FrameGate:
    """Passes whole frames on in runs, as few and as large as the bytes allow.

    Args:
        max_frame: largest accepted frame payload, in bytes.
        expect_preface: whether the peer is a client, whose first 24 bytes are the connection preface.
    """

    def __init__(self, *, max_frame: int, expect_preface: bool) -> None:
        self._buffer = bytearray()
        self._max_frame = max_frame
        self._preface_left = PREFACE if expect_preface else b""

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes | GoAwayReceived]:
        """Take bytes and return what became whole: runs of frames for ``h2``, and GOAWAYs, in order.

        Raises:
            RemoteProtocolError: a wrong preface, or a frame longer than allowed.
        """
        self._buffer += data
        self._take_preface()
        runs: list[bytes | GoAwayReceived] = []
        position = run_start = 0
        while (end := self._frame_end(position)) is not None:
            if self._buffer[position + 3] == _GOAWAY:
                self._close_run(runs, run_start, position)
                runs.append(_parse_goaway(bytes(self._buffer[position:end])))
                run_start = end
            position = end
        self._close_run(runs, run_start, position)
        del self._buffer[:position]
        return runs

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

    def _close_run(self, runs: list[bytes | GoAwayReceived], start: int, end: int) -> None:
        if end > start:
            runs.append(bytes(memoryview(self._buffer)[start:end]))


def _parse_goaway(frame: bytes) -> GoAwayReceived:
    """Source: RFC 9113, section 6.8."""
    if len(frame) < _HEADER + 8:
        raise RemoteProtocolError("the peer sent a GOAWAY frame that is too short", code=_FRAME_SIZE_ERROR)
    last = int.from_bytes(frame[9:13], "big") & 0x7FFFFFFF
    return GoAwayReceived(int.from_bytes(frame[13:17], "big"), last, frame[17 : 17 + _DEBUG_KEPT])
