"""Payload that has arrived and was not read yet.

What is read from a socket lies in a buffer that the next read overwrites, cut into frames. So it is copied, once: side
by side into a chunk of memory, from which it is read in pieces as large as they became. Chunks are used again, as new
memory costs more than the copying: each page is a fault, and cold.

A chunk may be used again when nobody looks at it any more. Python knows when that is: while there is a view of a
``bytearray``, its size cannot be changed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buildkit_session.http2.frames import Buffer

__all__ = ["Chunks", "Inbox"]

CHUNK: Final = 512 * 1024  # bytes

MAX_CHUNKS: Final = 32
"""Chunks of a connection. Streams that find none do with memory of their own."""

BULK: Final = 256 * 1024
"""Bytes after which a stream is worth a chunk: most calls are a message or two."""

_NONE: Final = memoryview(bytearray())


class Chunks:
    """The chunks of one connection."""

    def __init__(self) -> None:
        self._chunks: deque[bytearray] = deque()

    def take(self) -> memoryview:
        """A chunk that nobody else looks at, until the view is given up; an empty one if there are too many."""
        for _ in range(len(self._chunks)):
            chunk = self._chunks[0]
            self._chunks.rotate(-1)
            if not _is_viewed(chunk):
                return memoryview(chunk)
        if len(self._chunks) == MAX_CHUNKS:
            return _NONE
        self._chunks.append(bytearray(CHUNK))
        return memoryview(self._chunks[-1])


def _is_viewed(chunk: bytearray) -> bool:
    try:
        chunk.append(chunk.pop())
    except BufferError:
        return True
    return False


class Inbox:
    """What one stream has received and nobody has read."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._size = 0
        self._taken = 0
        # In order: pieces that grow no more, then what lies in the chunk between start and end.
        self._pieces: deque[Buffer] = deque()
        self._chunk = _NONE
        self._start = 0
        self._end = 0

    def __len__(self) -> int:
        return self._size

    def put(self, pieces: Sequence[Buffer]) -> None:
        """Copy payload."""
        size = sum(map(len, pieces))
        self._size += size
        if not self._has_room(size):
            self._put_apart(pieces)
            return
        chunk, end = self._chunk, self._end
        for piece in pieces:
            start, end = end, end + len(piece)
            chunk[start:end] = piece
        self._end = end

    def take(self) -> Buffer:
        """Take out as much as lies in one piece; there must be something."""
        if self._pieces:
            piece = self._pieces.popleft()
        else:
            piece, self._start = self._chunk[self._start : self._end], self._end
        self._size -= len(piece)
        self._taken += len(piece)
        return piece

    def _has_room(self, size: int) -> bool:
        """Have a chunk in which so many bytes follow what is there, if possible."""
        if self._end + size <= len(self._chunk):
            return True
        if self._end > self._start:
            self._pieces.append(self._chunk[self._start : self._end])
        is_bulk = self._taken >= BULK and size <= CHUNK
        self._chunk = self._chunks.take() if is_bulk else _NONE
        self._start = self._end = 0
        return bool(self._chunk)

    def _put_apart(self, pieces: Iterable[Buffer]) -> None:
        """Keep payload in memory of its own, joined: each piece costs its reader more than its bytes."""
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray):
            last += b"".join(pieces)
        else:
            self._pieces.append(bytearray().join(pieces))
