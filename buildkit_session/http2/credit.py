"""The windows we give: how much the peer may send, and when it is told that it may send more.

Credit for the *connection* is given back on receipt, credit for a *stream* when its bytes are consumed. So one reader
that stopped slows its own stream only. Both are given back in batches, to spare frames.

A stream's window begins small and doubles while its reader keeps up, so that a big transfer is handed over in big
pieces, while hundreds of idle streams cannot fill the memory. What all streams together may grow by is bounded:
unread bytes are at most ``stream_window * streams + GROWTH``.

Source: RFC 9113, sections 5.2 and 6.9.
"""

from __future__ import annotations

from typing import Final

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.http2.frames import FLOW_CONTROL_ERROR, window_update

__all__ = ["Credit"]

LARGEST: Final = 4 * 1024 * 1024
"""Bytes that the window of one stream grows to. With half of it a transfer waits for us more often, and is woken for
less: a tenth more of our CPU, a sixth more time. Twice as much takes 7 MiB more memory, and gains little."""

GROWTH: Final = 16 * 1024 * 1024
"""Bytes that all windows together grow by."""

GROW_AFTER: Final = 4
"""Windows that a stream's reader has taken before the window is doubled."""


class _Window:
    __slots__ = ("ended", "left", "owed", "size", "taken")

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = size  # what the peer may still send
        self.owed = 0  # bytes consumed whose credit the peer has not been given yet
        self.taken = 0  # bytes consumed since the window grew
        self.ended = False  # the peer sends nothing more


class Credit:
    """The received direction of a connection.

    Args:
        stream_window: bytes that a peer may send on a new stream before they are consumed.
        connection_window: bytes in flight on the whole connection.
    """

    def __init__(self, *, stream_window: int, connection_window: int) -> None:
        self._stream_window = stream_window
        self._connection = _Window(connection_window)
        self._streams: dict[int, _Window] = {}
        self._growth = GROWTH
        self._updates: list[bytes] = []

    def open(self, stream_id: int) -> None:
        """Give a new stream its window."""
        self._streams[stream_id] = _Window(self._stream_window)

    def end(self, stream_id: int) -> None:
        """Give nothing more to an open stream: the peer has ended its side. What it has sent may be unread yet."""
        self._streams[stream_id].ended = True

    def drop(self, stream_id: int) -> None:
        """Forget a stream."""
        if (window := self._streams.pop(stream_id, None)) is not None:
            self._growth += window.size - self._stream_window

    def clear(self) -> None:
        """Forget all streams, and what the peer was to be told."""
        self._streams.clear()
        self._updates.clear()

    def is_given(self, stream_id: int) -> bool:
        """Whether the peer may send on a stream."""
        window = self._streams.get(stream_id)
        return window is not None and not window.ended

    def received(self, stream_id: int, size: int) -> None:
        """Count bytes that arrived on an open stream.

        Raises:
            RemoteProtocolError: they are more than was allowed.
        """
        window = self._streams[stream_id]
        window.left -= size
        if window.left < 0:
            text = f"the peer sent {-window.left} bytes more than the window of stream {stream_id}"
            raise RemoteProtocolError(text, code=FLOW_CONTROL_ERROR)
        self.received_by_connection(size)

    def received_by_connection(self, size: int) -> None:
        """Count bytes that arrived on any stream, such as one that is closed; raises as :meth:`received`."""
        window = self._connection
        window.left -= size
        if window.left < 0:
            text = f"the peer sent {-window.left} bytes more than the window of the connection"
            raise RemoteProtocolError(text, code=FLOW_CONTROL_ERROR)
        window.owed += size
        if window.owed * 4 >= window.size:
            self._give(0, window, window.owed)

    def consumed(self, stream_id: int, size: int) -> None:
        """Count bytes of a stream that were read. Does nothing where no more can come."""
        window = self._streams.get(stream_id)
        if window is None or window.ended:
            return
        window.owed += size
        window.taken += size
        if window.owed * 2 >= window.size:
            self._give(stream_id, window, window.owed + self._growth_of(window))
            if self._connection.owed:
                # It costs nothing beside the other one, and a write of its own later.
                self._give(0, self._connection, self._connection.owed)

    def updates(self) -> list[bytes]:
        """Return the frames that tell the peer, and forget them."""
        updates, self._updates = self._updates, []
        return updates

    def _give(self, stream_id: int, window: _Window, increment: int) -> None:
        window.left += increment
        window.owed = 0
        self._updates.append(window_update(increment, stream_id))

    def _growth_of(self, window: _Window) -> int:
        """Double a window whose reader keeps up; returns by how much."""
        growth = window.size
        if window.taken < GROW_AFTER * window.size or window.size + growth > LARGEST or growth > self._growth:
            return 0
        self._growth -= growth
        window.size += growth
        window.taken = 0
        return growth
