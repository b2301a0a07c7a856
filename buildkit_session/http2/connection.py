"""Moves the bytes of one HTTP/2 connection between an asyncio transport and the core, and lets tasks use its streams.

The reader never waits for anyone: bytes go into the core, events to the streams, and whoever waits is woken. Waiting is
all on the streams' side: :meth:`Stream.receive` for bytes, :meth:`Stream.send` for room. What bounds memory is the
stream window in one direction and ``SEND_BUFFER`` a stream in the other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, assert_never, cast

from anyio.lowlevel import checkpoint

from buildkit_session.errors import ConnectionClosed, RemoteProtocolError, StreamReset
from buildkit_session.http2.core import NO_ERROR, Core
from buildkit_session.http2.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    Headers,
    HeadersReceived,
    StreamEnded,
    StreamOpened,
    StreamResetReceived,
)
from buildkit_session.http2.inbox import Chunks, Inbox
from buildkit_session.http2.keepalive import Keepalive
from buildkit_session.http2.outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from buildkit_session.http2.frames import Buffer

__all__ = ["Connection", "Stream"]

SEND_BUFFER: Final = 128 * 1024
"""Bytes one stream may have waiting before :meth:`Stream.send` waits."""

TURN: Final = 512 * 1024
"""Bytes one stream sends before other tasks get their turn, where nothing makes it wait."""

SEND_COST: Final = 4 * 1024
"""Bytes that a smaller payload counts for in a turn: it takes as long."""

READ_SIZE: Final = 256 * 1024
"""Bytes read at once at most: more than lies in a Unix socket."""

SMALL_READ: Final = 8 * 1024
MANY_FRAMES: Final = 256
"""Frames in one read above which the next one is small, so that other tasks get their turn; then reads double again."""

WRITE_SIZE: Final = 256 * 1024
CONTROL_BACKLOG: Final = 64 * 1024
"""Bytes of unsent control frames above which a peer that reads nothing is not read from either."""

FAREWELL: Final = 2.0
"""Seconds a peer has to read our last bytes before the transport is closed without them."""

log = logging.getLogger("buildkit_session.http2")


class Stream:
    """One HTTP/2 stream, for the task that serves it or that asked. Made by :class:`Connection`.

    Attributes:
        id: the stream's number.
        headers: the request's header fields, pseudo-headers included.
        response: of a stream that this side has opened, the response's header fields, once they have come.
        trailers: the fields after its payload, likewise; there may be none.
        on_reset: called once, synchronously, when the peer resets the stream or the connection ends; never waits.
    """

    def __init__(self, connection: Connection, stream_id: int, headers: Headers) -> None:
        self.id = stream_id
        self.headers = headers
        self.response: Headers | None = None
        self.trailers: Headers | None = None
        self.on_reset: Callable[[], None] | None = None
        self._connection = connection
        self._sent_in_turn = 0
        self._inbox = Inbox(connection.chunks)
        self._ended = False  # the peer sends nothing more
        self._error: StreamReset | ConnectionClosed | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Stream {self.id} buffered={len(self._inbox)} ended={self._ended} error={self._error!r}>"

    @property
    def ended(self) -> bool:
        """Whether the peer has ended its side in the regular way. What it sent may be unread yet."""
        return self._ended

    @property
    def failed(self) -> bool:
        """Whether it was reset, by either side, or its connection has ended."""
        return self._error is not None

    async def wait_for_response(self) -> Headers:
        """Wait for the header fields of the response to a stream that this side has opened.

        Raises:
            StreamReset: the stream was reset.
            ConnectionClosed: the connection ended first.
        """
        while self.response is None:
            if self._error is not None:
                raise self._error
            self._readable.clear()
            await self._readable.wait()
        return self.response

    async def receive(self) -> Buffer:
        """Return bytes that have arrived, at least one; ``b""`` when the peer has ended its side.

        Bytes that arrived before a reset are returned before it is raised. A cancelled call loses nothing.

        Raises:
            StreamReset: the stream was reset.
            ConnectionClosed: the connection ended first.
        """
        while not self._inbox:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        return self.receive_nowait()

    def receive_nowait(self) -> Buffer:
        """Return bytes that have arrived, in one piece, possibly none. They count as consumed."""
        if not self._inbox:
            return b""
        data = self._inbox.take()
        self._connection.consumed(self.id, len(data))
        return data

    async def send(self, *pieces: Buffer) -> None:
        """Queue payload, then wait while the queue is full. A cancelled call has queued all of it.

        Args:
            pieces: sent as if they were one. They are not copied and must not change until they were sent.

        Raises:
            StreamReset: the stream was reset; payload may be lost.
            ConnectionClosed: the connection ended first.
        """
        self.raise_if_failed()
        self._connection.send_data(self.id, pieces)
        self._sent_in_turn += max(sum(map(len, pieces)), SEND_COST)
        if self._sent_in_turn > TURN:
            self._sent_in_turn = 0
            await checkpoint()
        while self._connection.queued(self.id) > SEND_BUFFER:
            self._writable.clear()
            await self._writable.wait()
            self.raise_if_failed()

    def send_headers(self, headers: Headers) -> None:
        """Send the response's headers. Does nothing on a stream that was reset."""
        self._connection.send_headers(self.id, headers)

    def send_trailers(self, headers: Headers) -> None:
        """Queue the trailers behind all payload; they end the stream. Does nothing on a stream that was reset."""
        self._connection.send_trailers(self.id, headers)

    def send_end(self) -> None:
        """End this side of a stream that it has opened, behind all payload. Does nothing on one that was reset."""
        self._connection.end_stream(self.id)

    def reset(self, code: int) -> None:
        """End the stream at once with an HTTP/2 error code; whoever waits on it is told."""
        self.on_reset = None
        self._failed(StreamReset(code, by="library"))
        self._connection.reset_stream(self.id, code)

    def raise_if_failed(self) -> None:
        """Raise what ended the stream early, if anything did.

        Raises:
            StreamReset: the stream was reset.
            ConnectionClosed: the connection ended.
        """
        if self._error is not None:
            raise self._error

    # -- called by the connection, from the reader --

    def _data_received(self, pieces: Sequence[Buffer]) -> None:
        self._inbox.put(pieces)
        self._readable.set()

    def _headers_received(self, headers: Headers) -> None:
        if self.response is None:
            self.response = headers
        else:
            self.trailers = headers
        self._readable.set()

    def _end_received(self) -> None:
        self._ended = True
        self._readable.set()
        self._writable.set()  # who has asked, and was answered, has nothing left to send

    def _failed(self, error: StreamReset | ConnectionClosed) -> None:
        if self._error is not None:
            return
        self._error = error
        self._readable.set()
        self._writable.set()
        if self.on_reset is not None:
            self.on_reset()


class Connection(asyncio.BufferedProtocol):
    """An asyncio protocol that serves HTTP/2 on whatever transport it is given.

    Args:
        on_stream: called for every stream the peer opens; must not block, usually starts a task.
        core: the state machine; a fresh one by default.
        idle: seconds of silence after which the peer is asked for a sign of life.

    Attributes:
        closed: set when the connection is gone.
        error: why it went, or ``None`` for a regular end.
        on_closed: called once, synchronously, right after ``closed`` was set.
        chunks: memory for what streams receive.
    """

    def __init__(
        self, on_stream: Callable[[Stream], None], *, core: Core | None = None, idle: float | None = None
    ) -> None:
        self.closed = asyncio.Event()
        self.error: Exception | None = None
        self.on_closed: Callable[[], None] | None = None
        self.chunks = Chunks()
        self._core = core if core is not None else Core()
        self._on_stream = on_stream
        self._streams: dict[int, Stream] = {}
        self._ended_by_peer: list[int] = []  # by what is being told
        self._transport: asyncio.Transport | None = None
        self._outlet: Outlet | None = None
        self._loop = asyncio.get_running_loop()
        # A view: asyncio's TLS slices what it is lent, and a slice of a bytearray would be a copy that nobody reads.
        self._read_buffer = memoryview(bytearray(READ_SIZE))
        self._read_size = SMALL_READ
        self._write_paused = False
        self._held = bytearray()  # control frames that could not be written yet
        self._read_paused = False
        self._flush_scheduled = False
        self._ended = False  # streams have failed, the transport is closed or closing
        self._farewell: asyncio.TimerHandle | None = None
        self._keepalive = Keepalive(self._loop, ping=self._send_ping, lost=self._fell_silent, idle=idle)

    # -- asyncio.BufferedProtocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Adopt the transport and send our SETTINGS."""
        # As asyncio's contract has it for stream protocols; those of uvloop do not inherit from it.
        self._transport = cast("asyncio.Transport", transport)
        if transport.is_closing():
            # It was handed over by a protocol that may have been told of the loss already.
            self.connection_lost(None)
            return
        self._outlet = Outlet(self._transport)
        self._keepalive.start()
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Lend asyncio one buffer, used again for every read."""
        return self._read_buffer[: self._read_size]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.feed(self._read_buffer[:nbytes])

    def eof_received(self) -> bool:
        """The peer closed its side; HTTP/2 has no half-closed connections, so close ours."""
        self._end("the peer hung up")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everyone who waits."""
        if self.error is None:
            self.error = exc
        self._transport = None
        self._end(f"the connection was lost: {exc}" if exc else "the peer hung up")
        if self._farewell is not None:
            self._farewell.cancel()
        self.closed.set()
        if self.on_closed is not None:
            self.on_closed()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        self._write_paused = False
        if self._transport is None or self._outlet is None or self._ended:
            return
        self._outlet.write_rest()
        if self._held and not self._write_paused:
            held, self._held = self._held, bytearray()
            self._outlet.write([held])
        if self._read_paused:
            self._read_paused = False
            self._transport.resume_reading()
        self._flush()

    # -- used by the owner of the connection --

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes of the peer: what asyncio read, or what was read beyond an HTTP/1.1 upgrade."""
        self._keepalive.heard()
        try:
            events = self._core.receive_data(data)
        except RemoteProtocolError as error:
            self._abandon(error)
            return
        # Thousands of requests for files fit where a few frames of content do, and take as long as those are many.
        self._read_size = min(2 * self._read_size, READ_SIZE) if self._core.frames < MANY_FRAMES else SMALL_READ
        for event in events:
            if self._ended:
                return
            self._dispatch(event)
        # Not sooner: the core is ahead of what is told here, and a reset may have followed the end.
        for stream_id in self._ended_by_peer:
            if not self._core.is_open(stream_id):
                self._streams.pop(stream_id, None)  # this side had ended before
        self._ended_by_peer.clear()
        self._flush()

    def close(self) -> None:
        """Say GOAWAY and close the transport; streams that are still open fail with ConnectionClosed.

        What cannot be written in ``FAREWELL`` seconds is dropped. The end is seen in ``closed``.
        """
        self._end("the connection was closed by this side")

    def abort(self) -> None:
        """Close the transport without a word, dropping what is unsent."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def open_streams(self) -> int:
        """How many streams are not finished."""
        return len(self._streams)

    # -- used by streams --

    def consumed(self, stream_id: int, size: int) -> None:
        """Give a stream's window back."""
        self._core.consumed(stream_id, size)
        self._schedule_flush()

    def queued(self, stream_id: int) -> int:
        """Bytes of a stream that wait to be sent."""
        return self._core.queued(stream_id)

    def send_headers(self, stream_id: int, headers: Headers) -> None:
        """See :meth:`Core.send_headers`."""
        self._core.send_headers(stream_id, headers)
        self._schedule_flush()

    def send_data(self, stream_id: int, pieces: Iterable[Buffer]) -> None:
        """See :meth:`Core.send_data`."""
        self._core.send_data(stream_id, pieces)
        if self._core.queued(stream_id) > SEND_BUFFER:
            self._flush()
        else:
            self._schedule_flush()

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """See :meth:`Core.send_trailers`."""
        self._core.send_trailers(stream_id, headers)
        self._schedule_flush()

    def end_stream(self, stream_id: int) -> None:
        """See :meth:`ClientCore.end_stream`; a server ends a stream by its trailers."""
        raise NotImplementedError

    def reset_stream(self, stream_id: int, code: int) -> None:
        """See :meth:`Core.reset_stream`."""
        self._core.reset_stream(stream_id, code)
        self._streams.pop(stream_id, None)
        self._schedule_flush()

    # -- inside --

    def _dispatch(self, event: Event) -> None:
        match event:
            case StreamOpened(stream_id, headers):
                stream = self._streams[stream_id] = Stream(self, stream_id, headers)
                self._on_stream(stream)
            case GoAwayReceived(code, last, debug):
                self._go_away(code, last, debug)
            case _:
                if (opened := self._streams.get(event.stream_id)) is not None:
                    self._tell(opened, event)

    def _tell(self, stream: Stream, event: HeadersReceived | DataReceived | StreamEnded | StreamResetReceived) -> None:
        match event:
            case DataReceived(_, pieces):
                stream._data_received(pieces)
            case HeadersReceived(_, headers):
                stream._headers_received(headers)
            case StreamEnded(stream_id):
                stream._end_received()
                self._ended_by_peer.append(stream_id)
            case StreamResetReceived(stream_id, code, by):
                del self._streams[stream_id]
                stream._failed(StreamReset(code, by=by))
            case _:
                assert_never(event)

    def _go_away(self, code: int, last: int, debug: bytes) -> None:
        """No new streams come; live ones finish. The text is the peer's: shown escaped."""
        log.debug("< GOAWAY code=%d last=%d debug=%r", code, last, debug)
        self._refused_after(last)
        if code != NO_ERROR:
            text = f"the peer ended the connection with HTTP/2 code {code}: {debug[:200]!r}"
            self._abandon(RemoteProtocolError(text, code=NO_ERROR))

    def _refused_after(self, last: int) -> None:
        """The peer will not answer streams of ours above ``last``, nor new ones; see the client's connection."""

    def _abandon(self, error: RemoteProtocolError) -> None:
        """Close because of the peer's fault, after the GOAWAY that says so."""
        log.debug("! %s", error)
        if self.error is None:
            self.error = error
        self._end(str(error))

    def _send_ping(self) -> None:
        self._core.ping()
        self._flush()

    def _fell_silent(self, seconds: float) -> None:
        reason = f"the peer has sent nothing for {seconds:.0f} seconds and does not answer"
        if self.error is None:
            self.error = ConnectionClosed(reason)
        self._end(reason)

    def _end(self, reason: str) -> None:
        """Fail all streams, say what can still be said, and close the transport."""
        if self._ended:
            return
        self._flush()
        self._ended = True
        self._keepalive.stop()
        self._core.close()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream._failed(ConnectionClosed(reason))
        if self._transport is not None and self._outlet is not None:
            self._outlet.write_last([self._held, *self._core.data_to_send(0)])
            self._transport.close()
            # A transport closes when its buffer is empty, which a peer that stopped reading would put off for ever.
            self._farewell = self._loop.call_later(FAREWELL, self.abort)

    def _schedule_flush(self) -> None:
        """Write at the end of this turn of the loop, so that small messages share frames and system calls."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._transport is None or self._outlet is None or self._ended:
            return
        while not self._write_paused and (data := self._core.data_to_send(WRITE_SIZE)):
            self._outlet.write(data)
        if self._write_paused:
            self._hold_back(self._transport)
        self._wake_writers()

    def _hold_back(self, transport: asyncio.Transport) -> None:
        """Keep control frames for later; a peer that reads none of our answers is not read from either.

        Only control frames count: were DATA to count, two sides that both stopped reading would wait for ever.
        """
        self._held += b"".join(self._core.data_to_send(0))
        if len(self._held) > CONTROL_BACKLOG and not self._read_paused:
            self._read_paused = True
            transport.pause_reading()

    def _wake_writers(self) -> None:
        for stream_id in self._core.advanced():
            if (stream := self._streams.get(stream_id)) is None:
                continue
            if not self._core.is_open(stream_id):
                del self._streams[stream_id]  # its last frame has left
            if self._core.queued(stream_id) <= SEND_BUFFER // 2:
                stream._writable.set()
