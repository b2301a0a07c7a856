"""The gate in front of the state machine: cuts the byte stream into frames and checks what ``h2`` does not.

``h2`` parses HTTP/2 but does not defend itself: it buffers a frame of any announced length before it refuses it, and
it takes any GOAWAY for the end of all streams and drops what is queued, while a peer that says GOAWAY(NO_ERROR) only
asks for no *new* streams (RFC 9113, section 6.8). It remembers every setting there is a number for and walks through
all of them at each SETTINGS frame. So lengths are checked on the nine bytes of the frame header, GOAWAY never reaches
``h2``, and of SETTINGS only what has a meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.http2.events import GoAwayReceived
from buildkit_session.http2.frames import (
    DATA,
    FRAME_SIZE_ERROR,
    HEADER,
    PROTOCOL_ERROR,
    STREAM_ID,
    TERSE_LAYOUT,
    Run,
    unpack_header,
)

if TYPE_CHECKING:
    from buildkit_session.http2.frames import Buffer, Frame

__all__ = ["PREFACE", "FrameGate", "known_settings", "parse_goaway"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTING = 6
_KNOWN_SETTINGS = range(1, 7)
_DEBUG_KEPT = 1024


class FrameGate:
    """Cuts bytes into whole frames, and keeps together what a transfer mostly consists of: see :class:`Run`.

    Args:
        max_frame: largest accepted frame payload, in bytes.
        expect_preface: whether the peer is a client, whose first 24 bytes are the connection preface.
    """

    def __init__(self, *, max_frame: int, expect_preface: bool) -> None:
        self._max_frame = max_frame
        self._preface_left = PREFACE if expect_preface else b""
        self._begun = bytearray()  # a frame whose end has not arrived

    def feed(self, data: Buffer) -> list[Frame | Run]:
        """Take bytes and return the frames that became whole, in order. They may refer to ``data``.

        Raises:
            RemoteProtocolError: a wrong preface, or a frame longer than allowed.
        """
        view = memoryview(data)
        if self._preface_left:
            view = self._take_preface(view)
        frames: list[Frame | Run] = []
        if self._begun:
            view = self._complete(view, frames)
        position, size, longest, unpack = 0, len(view), self._max_frame, TERSE_LAYOUT.unpack_from
        pieces: list[memoryview] = []
        run_id = -1  # the stream of the run that ``frames`` end with, where ``pieces`` are those of that
        while (start := position + HEADER) <= size:
            high, low, kind_and_flags, stream_id = unpack(view, position)
            length = high << 8 | low
            if length > longest:
                raise self._too_long(length)
            end = start + length
            if end > size:
                break
            if kind_and_flags:
                run_id = -1
                frames.append((kind_and_flags >> 8, kind_and_flags & 0xFF, stream_id & STREAM_ID, view[position:end]))
            else:
                if stream_id != run_id:
                    run_id = stream_id & STREAM_ID
                    pieces = _run_at_the_end(frames, run_id).pieces
                pieces.append(view[start:end])
            position = end
        self._begun += view[position:]
        return frames

    def _take_preface(self, view: memoryview) -> memoryview:
        """Take as much of the preface as has arrived, which may be any part of it; returns the rest."""
        length = min(len(self._preface_left), len(view))
        if view[:length] != self._preface_left[:length]:
            raise RemoteProtocolError("the peer does not speak HTTP/2: wrong connection preface", code=PROTOCOL_ERROR)
        self._preface_left = self._preface_left[length:]
        return view[length:]

    def _complete(self, view: memoryview, frames: list[Frame | Run]) -> memoryview:
        """Take what the frame that has begun lacks, if it has arrived; returns the rest."""
        view = self._extend(view, HEADER)
        if len(self._begun) < HEADER:
            return view
        length, kind, flags, stream_id = unpack_header(self._begun)
        if length > self._max_frame:
            raise self._too_long(length)
        view = self._extend(view, HEADER + length)
        if len(self._begun) == HEADER + length:
            wire, self._begun = memoryview(self._begun), bytearray()
            if kind == DATA and not flags:
                _run_at_the_end(frames, stream_id).pieces.append(wire[HEADER:])
            else:
                frames.append((kind, flags, stream_id, wire))
        return view

    def _extend(self, view: memoryview, size: int) -> memoryview:
        """Let what has begun grow to ``size`` bytes at most; returns the rest."""
        missing = max(0, size - len(self._begun))
        self._begun += view[:missing]
        return view[missing:]

    def _too_long(self, length: int) -> RemoteProtocolError:
        text = f"the peer announced a frame of {length} bytes, {self._max_frame} are allowed"
        return RemoteProtocolError(text, code=FRAME_SIZE_ERROR)


def _run_at_the_end(frames: list[Frame | Run], stream_id: int) -> Run:
    """The run of a stream that the frames end with, which may have to begin there."""
    last = frames[-1] if frames else None
    if not isinstance(last, Run) or last.stream_id != stream_id:
        frames.append(last := Run(stream_id))
    return last


def known_settings(frame: bytes) -> bytes:
    """A SETTINGS frame less the settings without a meaning; what is malformed stays so.

    Source: RFC 9113, section 6.5.2.
    """
    entries = [frame[start : start + _SETTING] for start in range(HEADER, len(frame), _SETTING)]
    known = b"".join(
        entry for entry in entries if len(entry) < _SETTING or int.from_bytes(entry[:2], "big") in _KNOWN_SETTINGS
    )
    return len(known).to_bytes(3, "big") + frame[3:HEADER] + known


def parse_goaway(frame: bytes) -> GoAwayReceived:
    """The event of a GOAWAY frame, its text cut.

    Raises:
        RemoteProtocolError: it is malformed.

    Source: RFC 9113, section 6.8.
    """
    if len(frame) < HEADER + 8:
        raise RemoteProtocolError("the peer sent a GOAWAY frame that is too short", code=FRAME_SIZE_ERROR)
    if int.from_bytes(frame[5:9], "big") & 0x7FFFFFFF:
        raise RemoteProtocolError("the peer sent a GOAWAY frame on a stream", code=PROTOCOL_ERROR)
    last = int.from_bytes(frame[9:13], "big") & 0x7FFFFFFF
    return GoAwayReceived(int.from_bytes(frame[13:17], "big"), last, frame[17 : 17 + _DEBUG_KEPT])
