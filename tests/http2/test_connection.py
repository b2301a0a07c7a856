"""The connection over real sockets: waiting, waking, and what a slow or vanished peer costs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from scripted_peer import PATIENCE, connected

from buildkit_session.errors import ConnectionClosed, RemoteProtocolError, StreamReset
from buildkit_session.http2.connection import (
    CONTROL_BACKLOG,
    MANY_FRAMES,
    READ_SIZE,
    SEND_BUFFER,
    SMALL_READ,
    Connection,
    Stream,
)
from buildkit_session.http2.core import Core

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

OK = [(b":status", b"200")]
DONE = [(b"grpc-status", b"0")]


async def read_all(stream: Stream) -> bytes:
    pieces = []
    while piece := await stream.receive():
        pieces.append(piece)
    return b"".join(pieces)


async def eventually(condition: Callable[[], bool]) -> None:
    """Let the loop turn until ``condition`` holds; for what happens in the protocol and not in a task."""
    with anyio.fail_after(PATIENCE):
        while not condition():
            await checkpoint()


async def failure_of(wait: Callable[[], Awaitable[object]], seen: list[BaseException]) -> None:
    """Wait for something that must end with an error, and keep the error."""
    with anyio.fail_after(PATIENCE):
        try:
            await wait()
        except (StreamReset, ConnectionClosed) as error:
            seen.append(error)


async def test_echo() -> None:
    """Payload goes both ways, trailers come last."""
    streams: list[Stream] = []
    async with connected(streams.append) as peer:
        stream_id = await peer.open()
        await peer.send(stream_id, b"x" * 200_000, end=True)
        await peer.ping()
        [stream] = streams
        received = await read_all(stream)
        stream.send_headers(OK)
        await stream.send(received)
        stream.send_trailers(DONE)
        answer = await peer.answer(stream_id)

    assert bytes(answer.data) == received == b"x" * 200_000
    assert answer.trailers == DONE
    assert answer.reset is None


async def test_finished_streams_are_forgotten() -> None:
    streams: list[Stream] = []
    async with connected(streams.append) as peer:
        for _ in range(5):
            stream_id = await peer.open(end=True)
            await peer.ping()
            streams[-1].send_trailers(OK + DONE)
            await peer.answer(stream_id)
        assert len(streams) == 5
        assert peer.connection.open_streams == 0


async def test_send_waits_for_a_peer_that_stopped_reading() -> None:
    """What one stream holds is bounded by its queue and one piece; another stream goes on."""
    streams: list[Stream] = []
    sent = 0

    async def flood(stream: Stream) -> None:
        nonlocal sent
        stream.send_headers(OK)
        while True:
            await stream.send(b"x" * 10_000)
            sent += 10_000

    async with connected(streams.append) as peer, anyio.create_task_group() as tasks:
        peer.returns_credit = False
        stalled = await peer.open()
        await peer.ping()
        tasks.start_soon(flood, streams[0])
        await peer.until(lambda: len(peer.answers[stalled].data) == 65535)
        await wait_all_tasks_blocked()

        assert 65535 <= sent <= 65535 + SEND_BUFFER + 10_000
        assert peer.connection.queued(stalled) <= SEND_BUFFER + 10_000

        peer.h2.increment_flow_control_window(100_000)  # the connection's, not the stream's
        lively = await peer.open(end=True)
        await peer.ping()
        streams[1].send_headers(OK)
        await streams[1].send(b"prompt")
        streams[1].send_trailers(DONE)
        assert bytes((await peer.answer(lively)).data) == b"prompt"

        before = sent
        peer.h2.increment_flow_control_window(100_000, stalled)
        await peer.flush()
        await peer.until(lambda: len(peer.answers[stalled].data) > 65535 + 90_000)
        await wait_all_tasks_blocked()
        assert sent > before
        tasks.cancel_scope.cancel()


async def test_peer_that_reads_no_bytes() -> None:
    """When nothing is read from the socket, all streams wait; when it is again, all bytes arrive."""
    streams: list[Stream] = []

    async def answer(stream: Stream) -> None:
        stream.send_headers(OK)
        for _ in range(50):
            await stream.send(bytes((stream.id,)) * 20_000)
        stream.send_trailers(DONE)

    async with connected(streams.append, buffer=4096) as peer, anyio.create_task_group() as tasks:
        ids = [await peer.open(end=True) for _ in range(5)]
        await peer.ping()
        peer.h2.increment_flow_control_window(10_000_000)
        for stream_id in ids:
            peer.h2.increment_flow_control_window(1_000_000, stream_id)
        await peer.flush()
        await peer.ping()
        peer.stop_reading()
        for stream in streams:
            tasks.start_soon(answer, stream)
        await eventually(lambda: all(peer.connection.queued(stream_id) > SEND_BUFFER for stream_id in ids))
        peer.start_reading()
        answers = [await peer.answer(stream_id) for stream_id in ids]

    assert [bytes(answer.data) for answer in answers] == [bytes((stream_id,)) * 1_000_000 for stream_id in ids]


async def test_reader_that_stopped_stops_the_peer() -> None:
    """Unread bytes are bounded by the stream's window, and come out whole in the end."""
    streams: list[Stream] = []
    async with connected(streams.append, core=Core(stream_window=100_000)) as peer:
        await peer.ping()
        stream_id = await peer.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(peer.send, stream_id, b"y" * 1_000_000, end=True))
            await peer.until(lambda: peer.h2.local_flow_control_window(stream_id) == 0)
            await peer.ping()
            data = streams[0].receive_nowait()
            assert len(data) == 100_000
            assert bytes(data) + await read_all(streams[0]) == b"y" * 1_000_000


async def test_cancelled_receive_loses_nothing() -> None:
    streams: list[Stream] = []
    async with connected(streams.append) as peer:
        stream_id = await peer.open()
        await peer.ping()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(streams[0].receive)
            await wait_all_tasks_blocked()
            await peer.send(stream_id, b"kept", end=True)
            tasks.cancel_scope.cancel()
        assert await read_all(streams[0]) == b"kept"


async def test_cancelled_send_has_queued_all() -> None:
    streams: list[Stream] = []
    async with connected(streams.append) as peer:
        stream_id = await peer.open(end=True)
        await peer.ping()
        streams[0].send_headers(OK)
        async with anyio.create_task_group() as tasks:
            peer.returns_credit = False
            tasks.start_soon(streams[0].send, b"z" * 300_000)
            await wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        streams[0].send_trailers(DONE)
        peer.h2.increment_flow_control_window(300_000)
        peer.h2.increment_flow_control_window(300_000, stream_id)
        await peer.flush()
        answer = await peer.answer(stream_id)
    assert len(answer.data) == 300_000


async def test_reset_wakes_everyone() -> None:
    """A reset by the peer ends both waits, after the bytes that came before it, and tells ``on_reset`` once."""
    streams: list[Stream] = []
    seen: list[BaseException] = []
    calls: list[str] = []
    async with connected(streams.append) as peer, anyio.create_task_group() as tasks:
        peer.returns_credit = False
        stream_id = await peer.open()
        await peer.ping()
        [stream] = streams
        stream.on_reset = lambda: calls.append("reset")
        stream.send_headers(OK)
        tasks.start_soon(failure_of, partial(read_all, stream), seen)
        tasks.start_soon(failure_of, partial(stream.send, b"x" * 1_000_000), seen)
        await wait_all_tasks_blocked()
        await peer.send(stream_id, b"before")
        await peer.reset(stream_id, 8)

    assert [type(error) for error in seen] == [StreamReset, StreamReset]
    assert str(seen[0]) == "stream reset by peer with HTTP/2 code 8"
    assert calls == ["reset"]
    assert peer.connection.open_streams == 0


async def test_bytes_before_a_reset_come_first() -> None:
    streams: list[Stream] = []
    async with connected(streams.append) as peer:
        stream_id = await peer.open()
        await peer.send(stream_id, b"last words")
        await peer.reset(stream_id)
        await peer.ping()
        assert await streams[0].receive() == b"last words"
        with pytest.raises(StreamReset):
            await streams[0].receive()
        with pytest.raises(StreamReset):
            await streams[0].send(b"x")


async def test_own_reset() -> None:
    """The peer is told the code, a task that waits on the stream is woken; ``on_reset`` is for the peer's doing."""
    streams: list[Stream] = []
    seen: list[BaseException] = []
    async with connected(streams.append) as peer, anyio.create_task_group() as tasks:
        stream_id = await peer.open()
        await peer.ping()
        [stream] = streams
        stream.on_reset = lambda: pytest.fail("called")
        tasks.start_soon(failure_of, stream.receive, seen)
        await wait_all_tasks_blocked()
        stream.reset(7)
        stream.reset(8)
        answer = await peer.answer(stream_id)
        stream.send_trailers(DONE)
        await peer.ping()

    assert answer.reset == 7
    assert isinstance(seen[0], StreamReset)
    assert seen[0].by == "library"


@pytest.mark.parametrize("end", ["close", "abort", "peer closes", "peer breaks HTTP/2", "GOAWAY with an error"])
async def test_end_of_the_connection_wakes_everyone(end: str) -> None:
    """However the connection ends, every wait ends with ConnectionClosed, and ``closed`` is set."""
    streams: list[Stream] = []
    seen: list[BaseException] = []
    calls: list[str] = []
    async with connected(streams.append) as peer, anyio.create_task_group() as tasks:
        peer.returns_credit = False
        await peer.open()
        await peer.ping()
        [stream] = streams
        stream.on_reset = lambda: calls.append("lost")
        stream.send_headers(OK)
        tasks.start_soon(failure_of, stream.receive, seen)
        tasks.start_soon(failure_of, partial(stream.send, b"x" * 1_000_000), seen)
        await wait_all_tasks_blocked()
        match end:
            case "close":
                peer.connection.close()
            case "abort":
                peer.connection.abort()
            case "peer closes":
                peer.shut()
            case "peer breaks HTTP/2":
                await peer.write(b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0")
            case _:
                await peer.write(b"\0\0\x0b\x07\0\0\0\0\0" + bytes(7) + b"\x02why")
        with anyio.fail_after(PATIENCE):
            await peer.connection.closed.wait()

    assert [type(error) for error in seen] == [ConnectionClosed, ConnectionClosed]
    assert calls == ["lost"]
    expected = RemoteProtocolError if end in ("peer breaks HTTP/2", "GOAWAY with an error") else type(None)
    assert type(peer.connection.error) is expected


async def test_close_says_goaway() -> None:
    async with connected(lambda _stream: None) as peer:
        await peer.ping()
        peer.connection.close()
        peer.connection.close()
        await peer.until_closed()

    assert [goaway.error_code for goaway in peer.goaways] == [0]


async def test_close_sends_what_can_leave() -> None:
    """Trailers that were queued in the same turn of the loop still leave before the GOAWAY."""
    streams: list[Stream] = []
    async with connected(streams.append) as peer:
        stream_id = await peer.open(end=True)
        await peer.ping()
        streams[0].send_trailers(OK + DONE)
        peer.connection.close()
        await peer.until_closed()

    assert peer.answers[stream_id].status == b"0"
    assert len(peer.goaways) == 1


async def test_close_does_not_wait_for_a_peer_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport's buffer never empties; it is dropped."""
    monkeypatch.setattr("buildkit_session.http2.connection.FAREWELL", 0.0)
    streams: list[Stream] = []
    async with connected(streams.append, buffer=4096) as peer:
        stream_id = await peer.open(end=True)
        await peer.ping()
        peer.h2.increment_flow_control_window(1_000_000)
        peer.h2.increment_flow_control_window(1_000_000, stream_id)
        await peer.flush()
        await peer.ping()
        peer.stop_reading()
        await checkpoint()
        streams[0].send_headers(OK)
        with anyio.move_on_after(0):
            await streams[0].send(b"x" * 1_000_000)
        peer.connection.close()
        with anyio.fail_after(PATIENCE):
            await peer.connection.closed.wait()


async def test_goaway_without_an_error() -> None:
    """HF-15: the stream finishes, a PING is answered."""
    streams: list[Stream] = []
    async with connected(streams.append) as peer:
        stream_id = await peer.open()
        await peer.ping()
        await peer.write(b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff" + bytes(4))
        await peer.ping()
        await peer.send(stream_id, b"more", end=True)
        assert await read_all(streams[0]) == b"more"
        streams[0].send_trailers(OK + DONE)
        answer = await peer.answer(stream_id)

    assert answer.status == b"0"
    assert peer.connection.error is None


async def test_goaway_with_an_error() -> None:
    """HF-16: the code and the text, cut and escaped, are what the connection ended with."""
    async with connected(lambda _stream: None) as peer:
        await peer.ping()
        text = b"too many \x1b[31mpings" + b"x" * 2000
        frame = (8 + len(text)).to_bytes(3, "big") + b"\x07\0\0\0\0\0" + bytes(7) + b"\x0b" + text
        await peer.write(frame)
        await peer.until_closed()

    assert "code 11: b'too many \\x1b[31mpings" in str(peer.connection.error)
    assert len(str(peer.connection.error)) < 400


async def test_events_after_the_end_are_dropped() -> None:
    """A stream that is opened behind a GOAWAY with an error, in the same read, is nobody's business."""
    streams: list[Stream] = []
    async with connected(streams.append) as peer:
        await peer.ping()
        peer.h2.send_headers(1, [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/")])
        await peer.write(b"\0\0\x08\x07\0\0\0\0\0" + bytes(7) + b"\x01" + peer.h2.data_to_send())
        await peer.until_closed()

    assert streams == []


async def test_ping_flood_with_replies_unread() -> None:
    """FL-02: what we keep of the answers is bounded: reading stops. When the peer reads again, all goes on."""
    async with connected(lambda _stream: None, buffer=4096) as peer:
        await peer.ping()
        peer.stop_reading()
        pings = 40_000
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer.write, b"\0\0\x08\x06\0\0\0\0\0flooding" * pings)
            await eventually(lambda: peer.connection._read_paused)
            assert CONTROL_BACKLOG < len(peer.connection._held) <= CONTROL_BACKLOG + READ_SIZE
            peer.start_reading()
        await peer.ping()

    assert peer.pongs.count(b"flooding") == pings


async def test_transport_that_is_closing_already() -> None:
    """A connection that takes over a dead transport ends at once, instead of waiting for a loss that was told."""
    async with connected(lambda _stream: None) as peer:
        transport = peer.connection._transport
        assert transport is not None
        transport.abort()
        late = Connection(lambda _stream: None)
        late.connection_made(transport)
        with anyio.fail_after(PATIENCE):
            await late.closed.wait()
        late.feed(b"anything")
        late.close()
        late.abort()


async def test_unread_events_do_not_keep_the_loop() -> None:
    """HF-18: a message in frames of one byte takes linear time; all of it arrives."""
    streams: list[Stream] = []
    async with connected(streams.append) as peer:
        stream_id = await peer.open()
        await peer.ping()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer.write, (b"\0\0\x01\0\0" + stream_id.to_bytes(4, "big") + b"z") * 60_000)
            received = 0
            with anyio.fail_after(PATIENCE):
                while received < 60_000:
                    received += len(await streams[0].receive())
    assert received == 60_000


def test_repr_shows_no_payload() -> None:
    async def main() -> str:
        stream = Stream(Connection(lambda _stream: None), 7, [(b"secret", b"hunter2")])
        stream._data_received([b"hunter2"])
        return repr(stream)

    text = asyncio.run(main())
    assert "7" in text
    assert "hunter2" not in text


async def test_many_small_frames_keep_reads_small() -> None:
    """A large read of them would hold the event loop for long; what holds few frames is read in large pieces."""
    ping = b"\0\0\x08\6\0\0\0\0\0" + bytes(8)
    async with connected(lambda _: None) as peer:
        await peer.ping()
        peer.connection.feed(ping * MANY_FRAMES)
        sizes = [len(peer.connection.get_buffer(-1))]
        while sizes[-1] < READ_SIZE:
            peer.connection.feed(ping)
            sizes.append(len(peer.connection.get_buffer(-1)))

    assert sizes == [SMALL_READ << doubled for doubled in range(6)]
