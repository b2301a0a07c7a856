"""Payload that waits to be sent, and the windows that say how much of it may leave.

DATA leaves in frames of at most the peer's maximum, one frame a stream in turn. A stream with something to send is in
one of three places: *ready*, in turn; *parked*, in turn for the connection's window; or in neither, until its own
window widens. Payload is never copied: what was queued is sent in the pieces it came in, cut where a frame ends.

Source: RFC 9113, sections 5.2 and 6.9.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from buildkit_session.http2.frames import DATA, frame_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from buildkit_session.http2.events import Headers
    from buildkit_session.http2.frames import Buffer

__all__ = ["DEFAULT_WINDOW", "MAX_WINDOW", "Outbox"]

DEFAULT_WINDOW: Final = 65535
MAX_WINDOW: Final = 2**31 - 1


class _Queue:
    """What a stream wants to send."""

    __slots__ = ("pieces", "size", "start", "trailers", "window")

    def __init__(self, window: int) -> None:
        self.pieces: deque[memoryview] = deque()
        self.start = 0  # where the first of them goes on
        self.size = 0  # bytes in all pieces
        self.trailers: Headers | None = None  # what ends the stream, behind all payload
        self.window = window  # bytes the peer takes; negative after it narrowed its windows

    def cut(self, length: int, out: list[Buffer]) -> None:
        """Move the first ``length`` bytes to ``out``; the caller counts them."""
        while length:
            piece = self.pieces[0]
            left = len(piece) - self.start
            if left > length:
                end = self.start + length
                out.append(piece[self.start : end])
                self.start = end
                return
            out.append(piece[self.start :] if self.start else piece)
            self.pieces.popleft()
            self.start = 0
            length -= left


class Outbox:
    """The sent direction of a connection.

    Attributes:
        max_frame: bytes of payload in a frame, at most.
    """

    def __init__(self, *, max_frame: int) -> None:
        self.max_frame = max_frame
        self._initial_window = DEFAULT_WINDOW
        self._window = DEFAULT_WINDOW  # the connection's
        self._queues: dict[int, _Queue] = {}
        # Ordered sets; the first is next.
        self._ready: OrderedDict[int, None] = OrderedDict()
        self._parked: OrderedDict[int, None] = OrderedDict()
        self._advanced: set[int] = set()

    def open(self, stream_id: int) -> None:
        """Take a new stream."""
        self._queues[stream_id] = _Queue(self._initial_window)

    def drop(self, stream_id: int) -> None:
        """Forget a stream and what it has queued."""
        self._queues.pop(stream_id, None)
        self._ready.pop(stream_id, None)
        self._parked.pop(stream_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._queues.clear()
        self._ready.clear()
        self._parked.clear()

    def queued(self, stream_id: int) -> int:
        """Bytes of a stream that wait."""
        queue = self._queues.get(stream_id)
        return queue.size if queue is not None else 0

    def put(self, stream_id: int, pieces: Iterable[Buffer]) -> None:
        """Queue payload of an open stream, which must not change until it was sent."""
        queue = self._queues[stream_id]
        for piece in pieces:
            if piece:
                queue.pieces.append(memoryview(piece))
                queue.size += len(piece)
        self._make_ready(stream_id, queue)

    def finish(self, stream_id: int, trailers: Headers) -> None:
        """Queue what ends an open stream."""
        queue = self._queues[stream_id]
        queue.trailers = trailers
        self._make_ready(stream_id, queue)

    def widen(self, stream_id: int, increment: int) -> bool:
        """Let an open stream send more; returns whether the window is still one that HTTP/2 allows."""
        queue = self._queues[stream_id]
        queue.window += increment
        self._make_ready(stream_id, queue)
        return queue.window <= MAX_WINDOW

    def widen_connection(self, increment: int) -> bool:
        """The same for all streams together."""
        self._window += increment
        # Those that waited come first, in their order: else the lowest stream would take every small update.
        self._parked.update(self._ready)
        self._ready, self._parked = self._parked, OrderedDict()
        return self._window <= MAX_WINDOW

    def set_initial_window(self, size: int) -> bool:
        """Take the peer's setting, which changes the windows of open streams too; returns as :meth:`widen`."""
        change, self._initial_window = size - self._initial_window, size
        return all(self.widen(stream_id, change) for stream_id in self._queues)

    def emit(self, budget: int, out: list[Buffer]) -> Iterator[tuple[int, Headers]]:
        """Append frames to ``out``, about ``budget`` bytes at most.

        Yields each stream that has sent all of its payload and is to end, with its trailers; the caller appends these
        and drops the stream before it goes on.
        """
        while budget > 0 and self._ready:
            stream_id, _ = self._ready.popitem(last=False)
            queue = self._queues[stream_id]
            if not queue.size:
                if queue.trailers is not None:
                    self._advanced.add(stream_id)
                    budget -= 1
                    yield stream_id, queue.trailers
                continue
            if self._window <= 0:
                self._parked[stream_id] = None
                continue
            # A stream gives way to the others after each frame; alone it need not.
            frames = 1 if self._ready else -(-budget // self.max_frame)
            size = min(queue.size, queue.window, self._window, frames * self.max_frame)
            if size <= 0:
                continue
            for start in range(0, size, self.max_frame):
                length = min(size - start, self.max_frame)
                out.append(frame_header(length, DATA, 0, stream_id))
                queue.cut(length, out)
            queue.size -= size
            queue.window -= size
            self._window -= size
            budget -= size
            self._advanced.add(stream_id)
            self._make_ready(stream_id, queue)

    def advanced(self) -> set[int]:
        """The streams that sent something since the last call, those that have ended by it included."""
        advanced, self._advanced = self._advanced, set()
        return advanced

    def _make_ready(self, stream_id: int, queue: _Queue) -> None:
        if queue.size or queue.trailers is not None:
            self._ready[stream_id] = None
