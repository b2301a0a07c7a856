"""The side that asks, over real sockets: waiting in line, waking, and servers that go away."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from h2.settings import SettingCodes
from scripted_peer import PATIENCE, request
from scripted_server import (
    CONTINUATION,
    DONE,
    OK,
    announcement,
    answer,
    data,
    frame,
    goaway,
    headers,
    message,
    reset,
    scripted,
)

from buildkit_session.errors import ConnectionClosed, LocalProtocolError, RemoteProtocolError, StreamReset
from buildkit_session.http2 import client_connection, keepalive
from buildkit_session.http2.client_connection import ClientConnection
from buildkit_session.http2.connection import SEND_BUFFER, Connection, Stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

NO_ERROR, CANCEL = 0, 8
ONE_STREAM = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}


async def ask(connection: ClientConnection) -> Stream:
    stream = await connection.open(request())
    stream.send_end()
    return stream


async def read_all(stream: Stream) -> bytes:
    pieces = []
    while piece := await stream.receive():
        pieces.append(piece)
    return b"".join(pieces)


async def in_time(wait: Awaitable[object]) -> None:
    with anyio.fail_after(PATIENCE):
        await wait


class Seen:
    """How a wait ended, of a task that a test has started."""

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        self.result: object = None
        self.error: BaseException | None = None
        self._wait = wait

    async def __call__(self) -> None:
        try:
            self.result = await self._wait()
        except (StreamReset, ConnectionClosed) as error:
            self.error = error


async def test_a_request_and_its_answer() -> None:
    async with scripted() as server:
        stream = await server.connection.open(request(b"/a.B/C", (b"key", b"value")))
        await stream.send(b"x" * 200_000)
        stream.send_end()
        await server.until(lambda: server.streams[stream.id].ended if stream.id in server.streams else False)
        asked = server.streams[stream.id]
        await server.write(answer(stream.id, b"y" * 200_000))
        assert await stream.wait_for_response() == OK
        received = await read_all(stream)

    assert (b"key", b"value") in asked.headers
    assert bytes(asked.data) == b"x" * 200_000
    assert received[5:] == b"y" * 200_000
    assert stream.trailers == DONE
    assert stream.ended
    assert server.connection.open_streams == 0


# -- waiting in line ----------------------------------------------------------------------------------------------


async def test_requests_wait_in_line() -> None:
    """CL-08: first come, first served, one after the other."""
    opened: list[bytes] = []

    async def one(path: bytes) -> None:
        stream = await server.connection.open(request(path))
        opened.append(path)
        stream.send_end()
        await read_all(stream)

    async with scripted(ONE_STREAM) as server, anyio.create_task_group() as tasks:
        paths = [b"/%d" % number for number in range(10)]
        for path in paths:
            tasks.start_soon(one, path)
        for number in range(10):
            asked = await server.asked(2 * number + 1)
            await wait_all_tasks_blocked()
            assert opened == paths[: number + 1]
            assert (b":path", paths[number]) in asked.headers
            await server.write(answer(2 * number + 1))


async def test_no_room_at_all() -> None:
    """CL-08: goes on when the server takes requests."""
    async with scripted({SettingCodes.MAX_CONCURRENT_STREAMS: 0}) as server, anyio.create_task_group() as tasks:
        seen = Seen(lambda: ask(server.connection))
        tasks.start_soon(seen)
        await wait_all_tasks_blocked()
        await server.ping()
        assert server.streams == {}

        await server.write(announcement({SettingCodes.MAX_CONCURRENT_STREAMS: 5}))
        await server.asked(1)

    assert isinstance(seen.result, Stream)


async def test_who_waits_is_not_woken_for_nothing() -> None:
    """CL-08: traffic of other streams costs those in line nothing, and only the first looks whether there is room."""
    async with scripted(ONE_STREAM) as server, anyio.create_task_group() as tasks:
        stream = await ask(server.connection)
        for _ in range(3):
            tasks.start_soon(server.connection.open, request())
        await wait_all_tasks_blocked()
        [waiter] = server.connection._room._waiters
        await server.write(headers(stream.id, OK), *[message(stream.id, b"x")] * 100)
        await server.ping()
        assert list(server.connection._room._waiters) == [waiter]
        assert not waiter.done()
        tasks.cancel_scope.cancel()


async def test_nobody_jumps_the_line() -> None:
    """Not even in the moment in which there is room, and the first in line has not run yet."""
    async with scripted(ONE_STREAM) as server, anyio.create_task_group() as tasks:
        stream = await ask(server.connection)
        tasks.start_soon(server.connection.open, request(b"/first"))
        await wait_all_tasks_blocked()
        stream.reset(CANCEL)
        tasks.start_soon(server.connection.open, request(b"/second"))
        with anyio.move_on_after(0):
            await server.connection.open(request(b"/jumped"))

        assert (b":path", b"/first") in (await server.asked(3)).headers
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("place", [0, 1], ids=["first", "second"])
async def test_cancelled_in_line(place: int) -> None:
    """Nothing was sent for it, and those behind move up."""
    async with scripted(ONE_STREAM) as server, anyio.create_task_group() as tasks:
        stream = await ask(server.connection)
        scopes = [anyio.CancelScope() for _ in range(3)]
        opened: list[int] = []

        async def wait(number: int) -> None:
            with scopes[number]:
                await server.connection.open(request(b"/%d" % number))
                opened.append(number)

        for number in range(3):
            tasks.start_soon(wait, number)
            await wait_all_tasks_blocked()
        scopes[place].cancel()
        await wait_all_tasks_blocked()
        await server.write(answer(stream.id))
        asked = await server.asked(3)
        await wait_all_tasks_blocked()

        assert opened == [1 - place]
        assert (b":path", b"/%d" % (1 - place)) in asked.headers
        tasks.cancel_scope.cancel()


async def test_cancelled_when_its_turn_had_come() -> None:
    """In the same turn of the loop: the place goes to the next in line."""
    async with scripted(ONE_STREAM) as server, anyio.create_task_group() as tasks:
        stream = await ask(server.connection)
        waiting: list[asyncio.Task[object] | None] = []

        async def wait() -> None:
            waiting.append(asyncio.current_task())
            with pytest.raises(asyncio.CancelledError):
                await server.connection.open(request(b"/cancelled"))

        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        tasks.start_soon(server.connection.open, request(b"/next"))
        await wait_all_tasks_blocked()
        stream.reset(CANCEL)  # makes room
        assert waiting[0] is not None
        waiting[0].cancel()

        assert (b":path", b"/next") in (await server.asked(3)).headers


async def test_a_malformed_request_holds_up_nobody() -> None:
    async with scripted(ONE_STREAM) as server:
        with pytest.raises(LocalProtocolError):
            await server.connection.open(request(b"/ /"))
        stream = await ask(server.connection)
        await server.write(answer(stream.id))
        assert await stream.wait_for_response() == OK


# -- servers that go away -----------------------------------------------------------------------------------------


async def test_goaway_without_an_error() -> None:
    """CL-06, HF-15: what the server has taken finishes, what it has not fails as such, and nothing new begins."""
    async with scripted() as server, anyio.create_task_group() as tasks:
        taken, refused = await ask(server.connection), await ask(server.connection)
        seen = Seen(refused.receive)
        tasks.start_soon(seen)
        await server.asked(refused.id)
        await server.write(goaway(taken.id))
        await server.ping()

        assert isinstance(seen.error, ConnectionClosed)
        assert "before it took this request" in str(seen.error)
        with pytest.raises(ConnectionClosed, match="takes no more requests"):
            await server.connection.open(request())
        await server.write(answer(taken.id, b"x"))
        assert await read_all(taken) == b"\0\0\0\0\1x"
        assert taken.trailers == DONE

    assert server.connection.error is None


async def test_goaway_in_two_steps() -> None:
    """As grpc-go says it: first that the end is near, then which was the last one."""
    async with scripted() as server:
        first, second = await ask(server.connection), await ask(server.connection)
        await server.write(goaway(2**31 - 1))
        await server.ping()
        await server.write(goaway(first.id), answer(first.id))
        assert await read_all(first) == b""
        with pytest.raises(ConnectionClosed):
            await in_time(second.wait_for_response())


async def test_goaway_reaches_those_in_line() -> None:
    async with scripted(ONE_STREAM) as server, anyio.create_task_group() as tasks:
        stream = await ask(server.connection)
        waits = [Seen(lambda: server.connection.open(request())) for _ in range(3)]
        for seen in waits:
            tasks.start_soon(seen)
        await wait_all_tasks_blocked()
        await server.write(goaway(stream.id))
        await server.ping()
        await wait_all_tasks_blocked()

        assert [type(seen.error) for seen in waits] == [ConnectionClosed] * 3


async def test_goaway_with_an_error() -> None:
    """HF-16: all fail, with what the server said."""
    async with scripted() as server:
        stream = await ask(server.connection)
        await server.asked(stream.id)
        await server.write(goaway(stream.id, 11, b"too_many_pings"))
        with pytest.raises(ConnectionClosed, match="too_many_pings"):
            await in_time(stream.receive())
        with pytest.raises(ConnectionClosed) as caught:
            await server.connection.open(request())

    assert isinstance(caught.value.__cause__, RemoteProtocolError)


WAITS: dict[str, Callable[[Stream], Awaitable[object]]] = {
    "for the response": Stream.wait_for_response,
    "for payload": Stream.receive,
    "for room": lambda stream: stream.send(b"x" * 1_000_000),
    "in line": lambda stream: cast("ClientConnection", stream._connection).open(request()),
}


@pytest.mark.parametrize("end", ["hang up", "close", "abort", "nonsense"])
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
async def test_the_connection_ends(wait: Callable[[Stream], Awaitable[object]], end: str) -> None:
    """ND-01, ND-02: whoever waits is woken, whatever for."""
    async with scripted(ONE_STREAM) as server, anyio.create_task_group() as tasks:
        server.returns_credit = False
        stream = await server.connection.open(request())
        await server.asked(stream.id)
        seen = Seen(lambda: wait(stream))
        tasks.start_soon(seen)
        await wait_all_tasks_blocked()
        if end == "hang up":
            server.hang_up()
        elif end == "close":
            server.connection.close()
        elif end == "abort":
            server.connection.abort()
        else:
            await server.write(frame(CONTINUATION, 0, 1, b"out of place"))
        await in_time(server.connection.closed.wait())
        await wait_all_tasks_blocked()

        assert isinstance(seen.error, ConnectionClosed)
        with pytest.raises(ConnectionClosed):
            await server.connection.open(request())


CUT = headers(1, OK) + data(1, b"one") + headers(1, DONE, end=True)


@pytest.mark.parametrize("size", range(len(CUT)))
async def test_hung_up_within_an_answer(size: int) -> None:
    """CL-05, ND-06: an answer without its end is never taken for a whole one."""
    async with scripted() as server:
        stream = await ask(server.connection)
        await server.asked(stream.id)
        await server.write(CUT[:size])
        server.hang_up()
        with pytest.raises(ConnectionClosed):
            await in_time(read_all(stream))

    assert not stream.ended


async def test_hung_up_after_the_answer() -> None:
    """ND-08: all of it was said."""
    async with scripted() as server:
        stream = await server.connection.open(request())  # has not asked all
        await server.asked(stream.id)
        await server.write(answer(stream.id, b"x"))
        server.hang_up()
        await in_time(server.connection.closed.wait())

        assert await read_all(stream) == b"\0\0\0\0\1x"
        assert stream.trailers == DONE


async def test_close_says_goaway() -> None:
    """What was asked and had no answer yet fails; the server is told that nobody waits."""
    async with scripted() as server:
        streams = [await ask(server.connection) for _ in range(3)]
        server.connection.close()
        for stream in streams:
            with pytest.raises(ConnectionClosed, match="closed by this side"):
                await in_time(stream.receive())
        await server.until_closed()

    assert [goaway.error_code for goaway in server.goaways] == [NO_ERROR]
    assert server.connection.error is None


# -- both directions ----------------------------------------------------------------------------------------------


async def test_send_waits_for_the_server() -> None:
    """What a stream holds is bounded, and the end comes last."""
    async with scripted() as server, anyio.create_task_group() as tasks:
        server.returns_credit = False
        stream = await server.connection.open(request())
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for _ in range(100):
                await stream.send(b"x" * 10_000)
                sent += 10_000
            stream.send_end()

        tasks.start_soon(flood)
        await server.until(lambda: stream.id in server.streams and len(server.streams[stream.id].data) == 65535)
        await wait_all_tasks_blocked()
        assert sent <= 65535 + SEND_BUFFER
        server.returns_credit = True
        server.h2.acknowledge_received_data(65535, stream.id)
        await server.write(server.h2.data_to_send())
        await server.until(lambda: server.streams[stream.id].ended)

    assert len(server.streams[stream.id].data) == 1_000_000


@pytest.mark.parametrize("also_reset", [True, False])
async def test_answered_while_sending(also_reset: bool) -> None:
    """The answer counts, and who was sending need not wait any more; the stream is given up in good order."""
    async with scripted() as server, anyio.create_task_group() as tasks:
        server.returns_credit = False
        stream = await server.connection.open(request())
        tasks.start_soon(stream.send, b"x" * 1_000_000)
        await server.until(lambda: stream.id in server.streams and len(server.streams[stream.id].data) == 65535)
        await server.write(answer(stream.id, b"x"), reset(stream.id, NO_ERROR) if also_reset else b"")
        with anyio.fail_after(PATIENCE):
            assert await read_all(stream) == b"\0\0\0\0\1x"
        await server.until(lambda: server.streams[stream.id].reset == NO_ERROR)

        assert server.connection.open_streams == 0
        assert stream.trailers == DONE


async def test_reset_while_sending() -> None:
    async with scripted() as server, anyio.create_task_group() as tasks:
        server.returns_credit = False
        stream = await server.connection.open(request())
        seen = Seen(lambda: stream.send(b"x" * 1_000_000))
        tasks.start_soon(seen)
        await server.until(lambda: stream.id in server.streams and len(server.streams[stream.id].data) == 65535)
        await server.write(reset(stream.id, 2))
        await server.ping()
        await wait_all_tasks_blocked()

    assert isinstance(seen.error, StreamReset)
    assert (seen.error.code, seen.error.by) == (2, "peer")


async def test_reset_half_way() -> None:
    """CL-05: what arrived before is read first."""
    async with scripted() as server:
        stream = await ask(server.connection)
        await server.write(headers(stream.id, OK), data(stream.id, b"half"), reset(stream.id, CANCEL))
        await server.ping()
        assert await stream.receive() == b"half"
        with pytest.raises(StreamReset):
            await stream.receive()


async def test_malformed_answer() -> None:
    """The error says whose decision it was, and the connection lives."""
    async with scripted() as server:
        bad, good = await ask(server.connection), await ask(server.connection)
        await server.write(data(bad.id, b"x"), answer(good.id))
        with pytest.raises(StreamReset) as caught:
            await in_time(bad.wait_for_response())
        assert await good.wait_for_response() == OK

    assert caught.value.by == "library"


async def test_unread_answer_is_bounded() -> None:
    """FC-04: a server that ignores the window is cut off."""
    async with scripted() as server:
        stream = await ask(server.connection)
        await server.write(headers(stream.id, OK), data(stream.id, b"x" * (256 * 1024 + 1)))
        await in_time(server.connection.closed.wait())
        with pytest.raises(ConnectionClosed, match="more than the window"):
            await in_time(read_all(stream))


# -- many requests ------------------------------------------------------------------------------------------------


def answer_at_once(stream: Stream) -> None:
    stream.send_headers(OK)
    stream.send_trailers(DONE)


async def test_ten_thousand_requests_on_one_connection() -> None:
    """LS-02: nothing is kept of them, on either side."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    _, serving = await loop.create_connection(lambda: Connection(answer_at_once), sock=theirs)
    _, asking = await loop.create_connection(ClientConnection, sock=ours)

    async def some() -> None:
        for _ in range(200):
            stream = await ask(asking)
            assert await read_all(stream) == b""
            assert stream.trailers == DONE

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(some)
    stream = await asking.open(request())

    assert asking.open_streams == 1
    assert len(asking._core._h2.streams) == 1
    stream.reset(CANCEL)
    asking.close()
    await in_time(asking.closed.wait())
    await in_time(serving.closed.wait())


# -- signs of life ------------------------------------------------------------------------------------------------


async def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """ND-04."""
    monkeypatch.setattr(client_connection, "IDLE", 0.2)
    monkeypatch.setattr(keepalive, "PATIENCE", 0.1)
    async with scripted() as server:
        stream = await ask(server.connection)
        await server.asked(stream.id)
        server.stop_reading()
        with pytest.raises(ConnectionClosed, match="does not answer"):
            await in_time(stream.receive())


async def test_pings_are_for_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """CL-11: without a call under way a gRPC server takes PINGs for an attack."""
    monkeypatch.setattr(client_connection, "IDLE", 0.02)
    monkeypatch.setattr(keepalive, "PATIENCE", 5.0)
    async with scripted() as server:
        for _ in range(3):
            server.connection._send_ping()  # as its timer does
        await server.ping()
        assert server.pings == 0

        await ask(server.connection)
        await server.until(lambda: server.pings >= 1)


def test_pings_are_rare() -> None:
    """CL-11: a gRPC server allows one in five minutes."""
    assert client_connection.IDLE > 300
