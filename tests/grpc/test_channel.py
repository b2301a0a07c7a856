"""Calls that this side makes: to our own server, to a script that may say anything, and to real daemons."""

from __future__ import annotations

import asyncio
import itertools
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_peer import PATIENCE, request
from scripted_server import (
    DONE,
    END_STREAM,
    HEADERS,
    OK,
    PING,
    announcement,
    answer,
    block,
    data,
    frame,
    goaway,
    headers,
    long_headers,
    message,
    reset,
    scripted,
    window,
)

from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.hijack import hijack
from buildkit_session.errors import ConnectionClosed, LocalProtocolError, RpcError, SessionError
from buildkit_session.grpc.channel import Channel
from buildkit_session.grpc.codec import BYTES, MessageCodec
from buildkit_session.grpc.envelope import MAX_MESSAGE
from buildkit_session.grpc.outgoing_call import OutgoingCall
from buildkit_session.grpc.router import Codecs, Route, Router, messages, unary
from buildkit_session.grpc.server import Server
from buildkit_session.grpc.status import Status
from buildkit_session.http2.client_connection import ClientConnection
from buildkit_session.http2.connection import SEND_BUFFER, Connection
from buildkit_session.http2.credit import LARGEST
from buildkit_session.http2.frames import REFUSED_STREAM
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.messages.moby.filesync.v1 import BytesMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.metadata import Metadata
    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

CALL = "/test.Test/Call"
UNARY = "/test.Test/Unary"
NO_ERROR, CANCEL = 0, 8
DETAILS = b"\x08\x05\x12\x04gone"


class Served:
    """Our own server on the other end."""

    def __init__(self, asking: ClientConnection, serving: Connection) -> None:
        self.asking = asking
        self.serving = serving
        self.channel = Channel(asking)

    async def settle(self) -> None:
        """Wait until nothing of any call is left on either side."""
        with anyio.fail_after(PATIENCE):
            while self.asking.open_streams or self.serving.open_streams:
                await checkpoint()


@asynccontextmanager
async def served(handler: Callable[[IncomingCall[bytes, bytes]], Awaitable[None]]) -> AsyncIterator[Served]:
    """A channel to a server with one method that takes and gives messages as they are, and a unary one."""

    async def upper(request: BytesMessage) -> BytesMessage:
        return BytesMessage(data=request.data.upper())

    router = Router(
        [
            Route(CALL, handler, lambda _metadata: Codecs(BYTES, BYTES)),
            Route(UNARY, unary(upper), messages(BytesMessage, BytesMessage)),
        ]
    )
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    async with anyio.create_task_group() as calls:
        server = Server(router, calls)
        _, serving = await loop.create_connection(lambda: Connection(server.accept), sock=theirs)
        _, asking = await loop.create_connection(ClientConnection, sock=ours)
        try:
            yield Served(asking, serving)
        finally:
            asking.close()
            with anyio.fail_after(PATIENCE, shield=True):
                await asking.closed.wait()
                await serving.closed.wait()
            calls.cancel_scope.cancel()


def call_of(
    channel: Channel, *, timeout: float | None = None, metadata: list[tuple[str, str]] | None = None
) -> AbstractAsyncContextManager[OutgoingCall[bytes, bytes]]:
    return channel.call(CALL, request=BYTES, response=BYTES, timeout=timeout, metadata=metadata or ())


async def echo(call: IncomingCall[bytes, bytes]) -> None:
    while (body := await call.recv()) is not None:
        await call.send(body)


async def never(_call: IncomingCall[bytes, bytes]) -> None:
    await anyio.sleep_forever()


async def received(call: OutgoingCall[Any, bytes]) -> list[bytes]:
    bodies = []
    with anyio.fail_after(PATIENCE):
        while (body := await call.recv()) is not None:
            bodies.append(body)
    return bodies


async def failure(call: OutgoingCall[bytes, bytes]) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await received(call)
    return caught.value


# -- the kinds of calls -------------------------------------------------------------------------------------------


async def test_unary() -> None:
    async with served(echo) as peer:
        assert await peer.channel.unary(UNARY, BytesMessage(data=b"abc"), BytesMessage) == BytesMessage(data=b"ABC")
        await peer.settle()


async def test_unary_calls_at_once() -> None:
    """More than the server takes at a time."""
    answers: dict[int, bytes] = {}

    async def one(number: int) -> None:
        answer = await peer.channel.unary(UNARY, BytesMessage(data=b"n%d" % number), BytesMessage)
        answers[number] = answer.data

    async with served(echo) as peer, anyio.create_task_group() as tasks:
        for number in range(600):
            tasks.start_soon(one, number)

    assert answers == {number: b"N%d" % number for number in range(600)}


async def test_responses() -> None:
    """One request, many responses."""

    async def count(call: IncomingCall[bytes, bytes]) -> None:
        request = await call.recv()
        assert request is not None
        for number in range(int(BytesMessage.parse(request).data)):
            await call.send(b"%d" % number)

    async with served(count) as peer:
        async with peer.channel.stream(CALL, BytesMessage(data=b"1000"), BYTES) as call:
            assert await received(call) == [b"%d" % number for number in range(1000)]
        await peer.settle()


async def test_requests() -> None:
    """Many requests, one response."""

    async def total(call: IncomingCall[bytes, bytes]) -> None:
        size = 0
        while bodies := await call.recv_many():
            size += sum(map(len, bodies))
        await call.send(b"%d" % size)

    async with served(total) as peer:
        async with call_of(peer.channel) as call:
            for _ in range(100):
                await call.send_many([b"x" * 10_000, b"", b"y"])
            call.end()
            call.end()  # once is enough
            assert await call.only_response() == b"1000100"
        await peer.settle()


async def test_both_ways() -> None:
    """Each response depends on the request before it."""
    async with served(echo) as peer:
        async with call_of(peer.channel) as call:
            for body in (b"one", b"", b"x" * 3_000_000):
                await call.send(body)
                assert await call.recv() == body
            call.end()
            assert await call.recv() is None
            assert await call.recv() is None  # again, if asked again
        await peer.settle()


async def test_metadata() -> None:
    """Keys may repeat, values may be any text without line breaks; the server's come with the headers."""
    seen: list[Metadata] = []

    async def note(call: IncomingCall[bytes, bytes]) -> None:
        seen.append(call.metadata)

    metadata = [("exclude-patterns", " a "), ("exclude-patterns", "*.ü"), ("name", "\udcff")]
    async with served(note) as peer, call_of(peer.channel, metadata=metadata) as call:
        call.end()
        assert await call.recv() is None
        assert list(await call.headers()) == []

    assert seen[0].get_all("exclude-patterns") == [" a ", "*.ü"]
    assert seen[0].get("name") == "\udcff"


async def test_metadata_of_the_server() -> None:
    async with scripted() as server, call_of(Channel(server.connection)) as call:
        await server.write(headers(1, [*OK, (b"x", b"1"), (b"x", b"2"), (b"grpc-encoding", b"identity")]))
        metadata = await call.headers()

    assert metadata.get_all("x") == ["1", "2"]


@pytest.mark.parametrize(
    ("path", "metadata"),
    [("/a b", []), ("/ü", []), ("/", [("Key", "x")]), ("/", [("k", "a\nb")]), ("/", [("ü", "")]), ("/", [("te", "x")])],
)
async def test_what_cannot_be_sent(path: str, metadata: list[tuple[str, str]]) -> None:
    """The caller's mistake, told before anything is sent."""
    async with served(echo) as peer:
        with pytest.raises(LocalProtocolError, match="cannot be sent"):
            await peer.channel.unary(path, BytesMessage(), BytesMessage, metadata=metadata)
        assert peer.asking.open_streams == 0


# -- how calls end ------------------------------------------------------------------------------------------------


async def test_status() -> None:
    """Code, text and details, after the responses that came before."""

    async def fail(call: IncomingCall[bytes, bytes]) -> None:
        await call.send(b"first")
        raise RpcError(Status.NOT_FOUND, "no 100% such thing: ü\n", details=DETAILS)

    async with served(fail) as peer, call_of(peer.channel) as call:
        call.end()
        assert await call.recv() == b"first"
        for _ in range(2):  # it stays so
            status = await failure(call)
            assert (status.code, status.message) == (Status.NOT_FOUND, "no 100% such thing: ü\n")
            assert status.details == DETAILS


async def test_unknown_method() -> None:
    async with served(echo) as peer:
        with pytest.raises(RpcError) as caught:
            await peer.channel.unary("/test.Test/Nonsense", BytesMessage(), BytesMessage)

    assert caught.value.code == Status.UNIMPLEMENTED


BAD_ANSWERS: dict[str, tuple[bytes, int]] = {
    "no status": (headers(1, OK) + data(1, b"", end=True), Status.UNKNOWN),
    "no status, only headers": (headers(1, OK, end=True), Status.UNKNOWN),
    "no status after a message": (headers(1, OK) + message(1, b"x") + data(1, b"", end=True), Status.UNKNOWN),
    "status before a message only": (
        headers(1, OK + DONE) + message(1, b"x") + data(1, b"", end=True),
        Status.UNKNOWN,
    ),
    "empty trailers": (headers(1, OK) + headers(1, [], end=True), Status.UNKNOWN),
    "odd status": (answer(1, b"x", trailers=[(b"grpc-status", b"zero")]), Status.UNKNOWN),
    "two statuses": (answer(1, b"x", trailers=DONE + DONE), Status.UNKNOWN),
    "error page": (
        headers(1, [(b":status", b"502"), (b"content-type", b"text/html")]) + data(1, b"<html>", end=True),
        Status.UNAVAILABLE,
    ),
    "error page without a body": (headers(1, [(b":status", b"404")], end=True), Status.UNIMPLEMENTED),
    "error page with good trailers": (
        headers(1, [(b":status", b"503")]) + message(1, b"x") + headers(1, DONE, end=True),
        Status.UNAVAILABLE,
    ),
    "foreign content": (
        headers(1, [(b":status", b"200"), (b"content-type", b"application/json")]) + headers(1, DONE, end=True),
        Status.UNKNOWN,
    ),
    "compressed": (headers(1, OK) + data(1, b"\1\0\0\0\1x") + headers(1, DONE, end=True), Status.INTERNAL),
    "odd flag": (headers(1, OK) + data(1, b"\x80\0\0\0\1x") + headers(1, DONE, end=True), Status.INTERNAL),
    "too long": (headers(1, OK) + data(1, b"\0" + (MAX_MESSAGE + 1).to_bytes(4, "big")), Status.RESOURCE_EXHAUSTED),
    "4 GiB": (headers(1, OK) + data(1, b"\0\xff\xff\xff\xff"), Status.RESOURCE_EXHAUSTED),
    "cut in a message": (headers(1, OK) + data(1, b"\0\0\0\0\2x") + headers(1, DONE, end=True), Status.INTERNAL),
    "cut in a prefix": (headers(1, OK) + data(1, b"\0\0") + headers(1, DONE, end=True), Status.INTERNAL),
    "payload first": (message(1, b"x") + headers(1, DONE, end=True), Status.INTERNAL),
    "status of HTTP missing": (headers(1, DONE, end=True), Status.INTERNAL),
    "refused": (reset(1, 7), Status.UNAVAILABLE),
    "cancelled": (reset(1, 8), Status.CANCELLED),
    "reset after headers": (headers(1, OK) + reset(1, 2), Status.INTERNAL),
    "reset half-way, without an error": (headers(1, OK) + message(1, b"x") + reset(1, NO_ERROR), Status.INTERNAL),
}


@pytest.mark.parametrize("ended", [True, False], ids=["asked all", "still asking"])
@pytest.mark.parametrize(("said", "code"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_no_failure_looks_like_success(said: bytes, code: Status, ended: bool) -> None:
    """CL-01 to CL-05, CL-09, CL-10, GR-06 to GR-09: and the next call is none the worse for it."""
    async with scripted() as server:
        channel = Channel(server.connection)
        async with call_of(channel) as call:
            if ended:
                call.end()
            await server.asked(1)
            await server.write(said)
            status = await failure(call)
            with pytest.raises(RpcError):
                await call.only_response()
        async with call_of(channel) as call:
            await server.asked(3)
            await server.write(answer(3, b"good"))
            assert await call.only_response() == b"good"
        await server.ping()
        assert server.connection.open_streams == 0

    assert status.code == code


async def test_a_message_that_cannot_be_decoded() -> None:
    """GR-10."""
    async with scripted() as server:
        codec = MessageCodec(BytesMessage)
        async with Channel(server.connection).call(CALL, request=BYTES, response=codec) as call:
            await server.asked(1)
            await server.write(answer(1, b"\xff\xff"))
            with pytest.raises(RpcError) as caught:
                await call.only_response()

    assert caught.value.code == Status.INTERNAL


@pytest.mark.parametrize("number", [0, 2])
async def test_not_exactly_one_response(number: int) -> None:
    """GR-11, from the other side."""
    async with scripted() as server, call_of(Channel(server.connection)) as call:
        await server.asked(1)
        await server.write(answer(1, *[b"x"] * number))
        with pytest.raises(RpcError, match="exactly one") as caught:
            await call.only_response()

    assert caught.value.code == Status.INTERNAL


async def test_a_second_response_is_not_waited_out() -> None:
    """The call ends there, and the server is told."""
    async with scripted() as server:
        async with call_of(Channel(server.connection)) as call:
            await server.asked(1)
            await server.write(headers(1, OK), message(1, b"x"), message(1, b"x"))
            with pytest.raises(RpcError, match="exactly one"):
                await call.only_response()
        await server.until(lambda: server.streams[1].reset == CANCEL)


async def test_a_response_before_a_failure_is_a_failure() -> None:
    async with scripted() as server, call_of(Channel(server.connection)) as call:
        await server.asked(1)
        await server.write(answer(1, b"x", trailers=[(b"grpc-status", b"10")]))
        with pytest.raises(RpcError) as caught:
            await call.only_response()

    assert caught.value.code == Status.ABORTED


async def test_huge_trailers() -> None:
    """What BuildKit says of a failed build: 3 MB of details, in more than 180 frames."""
    details = b"QUJD" * 750_000
    fields = [(b"grpc-status", b"2"), (b"grpc-message", b"failed"), (b"grpc-status-details-bin", details)]
    async with scripted() as server, call_of(Channel(server.connection)) as call, anyio.create_task_group() as tasks:
        await server.asked(1)
        tasks.start_soon(server.write, headers(1, OK), long_headers(1, fields))
        status = await failure(call)

    assert (status.code, status.message) == (2, "failed")
    assert status.details == b"ABC" * 750_000


async def test_goaway() -> None:
    """CL-06: a call that the server has not taken can be told from one that failed."""
    async with scripted() as server:
        channel = Channel(server.connection)
        async with call_of(channel) as taken, call_of(channel) as refused:
            await server.asked(3)
            await server.write(goaway(1), answer(1, b"x"))
            assert await taken.only_response() == b"x"
            with pytest.raises(ConnectionClosed, match="before it took"):
                await refused.recv()
        with pytest.raises(ConnectionClosed, match="no more requests"):
            await channel.unary(UNARY, BytesMessage(), BytesMessage)


async def test_the_connection_ends() -> None:
    async with scripted() as server, call_of(Channel(server.connection)) as call:
        await server.asked(1)
        await server.write(headers(1, OK), message(1, b"first"))
        await server.ping()
        server.hang_up()
        assert await call.recv() == b"first"
        with pytest.raises(ConnectionClosed):
            await call.recv()
        with pytest.raises(ConnectionClosed):
            await call.send(b"x")


async def test_the_connection_ends_after_the_last_word() -> None:
    """ND-08, also for a call that had not asked all."""
    async with scripted() as server, call_of(Channel(server.connection)) as call:
        await server.asked(1)
        await server.write(answer(1, b"x"))
        server.hang_up()
        with anyio.fail_after(PATIENCE):
            await server.connection.closed.wait()
        assert await call.only_response() == b"x"


# -- sending to a server that has heard enough --------------------------------------------------------------------


async def test_sending_after_a_failure() -> None:
    """The status is what tells why, not that the stream is gone."""
    async with scripted() as server, call_of(Channel(server.connection)) as call:
        await server.asked(1)
        await server.write(headers(1, [*OK, (b"grpc-status", b"8"), (b"grpc-message", b"full")], end=True))
        await server.ping()
        for _ in range(2):
            with pytest.raises(RpcError, match="full"):
                await call.send(b"x")
        call.end()
        with pytest.raises(RpcError, match="full"):
            await call.recv()


async def test_sending_to_an_error_page() -> None:
    async with scripted() as server, call_of(Channel(server.connection)) as call:
        await server.asked(1)
        await server.write(headers(1, [(b":status", b"503"), (b"grpc-status", b"0")], end=True))
        await server.ping()
        with pytest.raises(RpcError, match="HTTP status 503") as caught:
            await call.send(b"x")

    assert caught.value.code == Status.UNAVAILABLE


async def test_sending_while_the_server_fails() -> None:
    """Who waits for room is woken."""
    async with scripted() as server, call_of(Channel(server.connection)) as call, anyio.create_task_group() as tasks:
        server.returns_credit = False
        caught: list[RpcError] = []

        async def send() -> None:
            try:
                await call.send(b"x" * 1_000_000)
            except RpcError as error:
                caught.append(error)

        tasks.start_soon(send)
        await server.until(lambda: 1 in server.streams and len(server.streams[1].data) == 65535)
        await server.write(headers(1, [*OK, (b"grpc-status", b"8"), (b"grpc-message", b"full")], end=True))
        await server.ping()
        await wait_all_tasks_blocked()

        assert [error.message for error in caught] == ["full"]


async def test_sending_after_success() -> None:
    """RFC 9113, section 8.1: an early answer counts. What nobody reads is not sent, and holds up nobody."""
    async with scripted() as server, call_of(Channel(server.connection)) as call:
        await server.asked(1)
        await server.write(answer(1, b"had it already"))
        await server.ping()
        with anyio.fail_after(PATIENCE):
            for _ in range(100):
                await call.send(b"x" * SEND_BUFFER)
        call.end()
        assert await call.only_response() == b"had it already"
        await server.ping()
        assert server.streams[1].data == b""


async def test_sending_on_a_reset_call() -> None:
    async with scripted() as server, call_of(Channel(server.connection)) as call:
        await server.asked(1)
        await server.write(reset(1, 11))
        await server.ping()
        with pytest.raises(RpcError) as caught:
            await call.send(b"x")

    assert caught.value.code == Status.RESOURCE_EXHAUSTED


async def test_refused_once() -> None:
    """What the server has not looked at is asked again: at its limit of calls the end of the last may not count yet."""
    async with scripted() as server, anyio.create_task_group() as tasks:
        answers: list[BytesMessage] = []

        async def ask() -> None:
            answers.append(await Channel(server.connection).unary(UNARY, BytesMessage(b"q"), BytesMessage))

        tasks.start_soon(ask)
        first = await server.asked(1)
        await server.write(reset(1, REFUSED_STREAM))
        with anyio.fail_after(PATIENCE):
            second = await server.asked(3)
            await server.until(lambda: second.data == first.data != b"")
            await server.write(answer(3, bytes(BytesMessage(b"a"))))
    assert [message.data for message in answers] == [b"a"]


async def test_refused_again_and_again() -> None:
    async with scripted() as server, anyio.create_task_group() as tasks:

        async def refuse() -> None:
            for stream_id in itertools.count(1, 2):
                await server.asked(stream_id)
                await server.write(reset(stream_id, REFUSED_STREAM))

        tasks.start_soon(refuse)
        with pytest.raises(RpcError, match="code 7") as caught, anyio.fail_after(PATIENCE):
            await Channel(server.connection).unary(UNARY, BytesMessage(), BytesMessage)
        tasks.cancel_scope.cancel()
    assert caught.value.code == Status.UNAVAILABLE
    assert len(server.streams) == 4


# -- deadlines ----------------------------------------------------------------------------------------------------


async def test_deadline_on_this_side() -> None:
    """The server is told of it, and hears that the call is over."""
    async with scripted() as server:
        with pytest.raises(RpcError, match=r"0\.05 seconds") as caught, anyio.fail_after(PATIENCE):
            await Channel(server.connection).unary(UNARY, BytesMessage(), BytesMessage, timeout=0.05)
        asked = await server.asked(1)
        await server.until(lambda: asked.reset == CANCEL)

    assert caught.value.code == Status.DEADLINE_EXCEEDED
    assert (b"grpc-timeout", b"50000000n") in asked.headers


async def test_deadline_on_the_other_side() -> None:
    """The server's clock may be the faster one."""
    async with served(never) as peer, call_of(peer.channel, metadata=[("grpc-timeout", "1m")]) as call:
        status = await failure(call)

    assert status.code == Status.DEADLINE_EXCEEDED


async def test_deadline_that_the_server_meets_with_a_reset() -> None:
    """As grpc-go does; both sides then say the same."""
    async with scripted() as server:
        stream = await server.connection.open(request(CALL.encode()))
        call = OutgoingCall(stream, method=CALL, request=BYTES, response=BYTES, deadline=anyio.current_time())
        await server.asked(1)
        await server.write(reset(1, CANCEL))
        status = await failure(call)

    assert status.code == Status.DEADLINE_EXCEEDED


async def test_deadline_in_line() -> None:
    """CL-08: a call that never began."""
    async with scripted({SettingCodes.MAX_CONCURRENT_STREAMS: 0}) as server:
        with pytest.raises(RpcError) as caught, anyio.fail_after(PATIENCE):
            await Channel(server.connection).unary(UNARY, BytesMessage(), BytesMessage, timeout=0.05)
        await server.ping()
        assert server.streams == {}

    assert caught.value.code == Status.DEADLINE_EXCEEDED


async def test_no_deadline() -> None:
    async with scripted() as server, call_of(Channel(server.connection)):
        asked = await server.asked(1)

    assert b"grpc-timeout" not in dict(asked.headers)


async def test_a_call_in_time() -> None:
    async with served(echo) as peer:
        answer = await peer.channel.unary(UNARY, BytesMessage(data=b"a"), BytesMessage, timeout=PATIENCE)
        assert answer.data == b"A"


# -- leaving early ------------------------------------------------------------------------------------------------


class OwnError(Exception):
    pass


@pytest.mark.parametrize(
    "error", [OwnError("x"), RpcError(Status.ABORTED), TimeoutError(), StopAsyncIteration(), KeyboardInterrupt()]
)
async def test_what_a_block_raises(error: BaseException) -> None:
    """It leaves as it is, and the call is cancelled in the server."""
    async with scripted() as server:

        async def block() -> None:
            async with call_of(Channel(server.connection), timeout=PATIENCE):
                await server.asked(1)
                raise error

        with pytest.raises(type(error)) as caught:
            await block()
        await server.until(lambda: server.streams[1].reset == CANCEL)

    assert caught.value is error


async def test_leaving_a_stream_of_responses() -> None:
    """CX-07."""
    cancelled = anyio.Event()

    async def endless(call: IncomingCall[bytes, bytes]) -> None:
        try:
            while True:
                await call.send(b"x" * 1000)
        finally:
            cancelled.set()

    async with served(endless) as peer:
        async with peer.channel.stream(CALL, BytesMessage(), BYTES) as call:
            assert len(await call.recv_many()) > 0
        with anyio.fail_after(PATIENCE):
            await cancelled.wait()
        await peer.settle()


async def test_leaving_after_the_end() -> None:
    """Nothing is left to cancel."""
    async with scripted() as server:
        async with call_of(Channel(server.connection)) as call:
            call.end()
            await server.asked(1)
            await server.write(answer(1, b"x"))
            await call.only_response()
        await server.ping()

    assert server.streams[1].ended
    assert server.streams[1].reset is None


async def test_cancelled_anywhere() -> None:
    """CX-01: after any number of turns of the loop, nothing of the call is left on either side."""
    finished = 0

    async def use(channel: Channel) -> None:
        nonlocal finished
        async with call_of(channel, timeout=PATIENCE) as call:
            for body in (b"a", b"b" * 300_000):
                await call.send(body)
                assert await call.recv() == body
            call.end()
            assert await call.recv() is None
        await channel.unary(UNARY, BytesMessage(data=b"x"), BytesMessage, timeout=PATIENCE)
        finished += 1

    async with served(echo) as peer:
        for turns in range(1000):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(use, peer.channel)
                for _ in range(turns):
                    await checkpoint()
                tasks.cancel_scope.cancel()
            await peer.settle()
            if finished == 3:
                break
        assert finished == 3, "the call takes more turns than were tried"
        assert turns > 10


# -- back-pressure ------------------------------------------------------------------------------------------------


async def test_slow_reader_of_responses() -> None:
    """CL-12: the server waits; another call does not."""
    sent = 0

    async def flood(call: IncomingCall[bytes, bytes]) -> None:
        nonlocal sent
        while True:
            await call.send(b"x" * 10_000)
            sent += 10_000

    async with served(flood) as peer:
        async with call_of(peer.channel) as call:
            assert await call.recv() == b"x" * 10_000
            await wait_all_tasks_blocked()
            before = sent
            assert before <= 512 * 1024 + SEND_BUFFER
            assert await peer.channel.unary(UNARY, BytesMessage(data=b"a"), BytesMessage) == BytesMessage(data=b"A")
            await wait_all_tasks_blocked()
            assert sent == before

            for _ in range(1000):  # the window grows with a reader that keeps up, and is bounded as well
                assert await call.recv() is not None
            await wait_all_tasks_blocked()
            assert sent <= 1001 * 10_000 + 2 * LARGEST + SEND_BUFFER
        await peer.settle()


async def test_slow_reader_of_requests() -> None:
    sent = 0
    go = anyio.Event()

    async def wait(call: IncomingCall[bytes, bytes]) -> None:
        await go.wait()
        while await call.recv_many():
            pass

    async def flood(call: OutgoingCall[bytes, bytes]) -> None:
        nonlocal sent
        for _ in range(200):
            await call.send(b"x" * 10_000)
            sent += 10_000
        call.end()

    async with served(wait) as peer, call_of(peer.channel) as call, anyio.create_task_group() as tasks:
        tasks.start_soon(flood, call)
        await wait_all_tasks_blocked()
        assert sent <= 512 * 1024 + SEND_BUFFER
        go.set()
        assert await received(call) == []

    assert sent == 2_000_000


# -- whatever a server says ---------------------------------------------------------------------------------------

WHOLE = [
    frame(PING, 0, 0, b"12345678"),
    headers(1, [(b":status", b"103")]),
    headers(1, OK),
    message(1, b"body"),
    data(1, b"\0\0\0\0\2x"),
    data(1, b"y"),
    window(1000, 1),
    announcement({SettingCodes.INITIAL_WINDOW_SIZE: 100_000}),
    headers(1, [*DONE, (b"grpc-message", b"%41%"), (b"grpc-status-details-bin", b"AAE")], end=True),
]
PARTS = [
    *WHOLE,
    headers(1, OK + DONE, end=True),
    headers(1, [(b":status", b"503"), (b"grpc-status", b"14")], end=True),
    data(1, b"", end=True),
    reset(1, CANCEL),
    goaway(1),
    goaway(0, 11),
    frame(HEADERS, END_STREAM, 1, block(DONE)),
    announcement({SettingCodes.MAX_CONCURRENT_STREAMS: 0}),
]


@st.composite
def said(draw: st.DrawFn) -> bytes:
    """A good answer with frames swapped, doubled, left out and added, with changed bytes, cut anywhere."""
    frames = list(WHOLE)
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(frames)))
        frames[position : position + draw(st.integers(0, 2))] = draw(st.lists(st.sampled_from(PARTS), max_size=2))
    wire = bytearray(b"".join(frames))
    for position in draw(st.lists(st.integers(0, 400), max_size=3)):
        if position < len(wire):
            wire[position] = draw(st.integers(0, 255))
    return bytes(wire[: draw(st.integers(0, len(wire)))]) if draw(st.booleans()) else bytes(wire)


async def outcome(wire: bytes, size: int, *, ended: bool) -> list[bytes] | SessionError:
    """What a call comes to whose server says ``wire`` in pieces and hangs up."""
    async with scripted() as server:
        try:
            async with call_of(Channel(server.connection)) as call:
                if ended:
                    call.end()
                await server.asked(1)
                try:
                    for start in range(0, len(wire), size):
                        await server.write(wire[start : start + size])
                    server.hang_up()
                except OSError:
                    pass  # the connection is closed already
                return await received(call)
        except (RpcError, ConnectionClosed) as error:
            return error


@settings(max_examples=150, deadline=None)
@given(said(), st.integers(1, 100), st.booleans())
def test_whatever_a_server_says(wire: bytes, size: int, ended: bool) -> None:
    """CL-15: a clean result or a typed error, and soon."""
    result = anyio.run(lambda: outcome(wire, size, ended=ended))

    if isinstance(result, list):
        assert b"grpc-status\x010" in wire


@pytest.mark.parametrize("ended", [True, False])
async def test_a_good_answer_in_bytes(ended: bool) -> None:
    """What the test above starts from, byte by byte."""
    assert await outcome(b"".join(WHOLE), 1, ended=ended) == [b"body", b"xy"]


@pytest.mark.parametrize("size", range(0, len(b"".join(WHOLE)), 7))
async def test_a_good_answer_cut(size: int) -> None:
    """ND-06: however far it came, it is a failure."""
    assert isinstance(await outcome(b"".join(WHOLE)[:size], 1000, ended=True), ConnectionClosed)


# -- real daemons -------------------------------------------------------------------------------------------------

CONTROL = "/moby.buildkit.v1.Control/"


@asynccontextmanager
async def control(daemon: Daemon) -> AsyncIterator[Channel]:
    """The Control API of an Engine."""
    connection = await hijack(find_endpoint(daemon.address), "/grpc", [], ClientConnection)
    assert isinstance(connection, ClientConnection)
    try:
        yield Channel(connection)
    finally:
        connection.close()
        await connection.closed.wait()


async def test_daemon_answers(daemon: Daemon) -> None:
    async with control(daemon) as channel:
        answer = await channel.unary(CONTROL + "ListWorkers", v1.ListWorkersRequest(), v1.ListWorkersResponse)

    assert answer.record[0].platforms


async def test_daemon_does_not_know_the_method(daemon: Daemon) -> None:
    async with control(daemon) as channel:
        for path in (CONTROL + "Nonsense", "/nonsense.Service/Method"):
            with pytest.raises(RpcError) as caught:
                await channel.unary(path, v1.InfoRequest(), v1.InfoResponse, timeout=PATIENCE)
            assert caught.value.code == Status.UNIMPLEMENTED


async def test_daemon_reports_a_failure(daemon: Daemon) -> None:
    """Solve of a session that is not there."""
    request = v1.SolveRequest(ref="asking-1", session="no-such-session", frontend="no-such-frontend")
    async with control(daemon) as channel:
        with pytest.raises(RpcError) as caught:
            await channel.unary(CONTROL + "Solve", request, v1.SolveResponse, timeout=PATIENCE)

    assert caught.value.code not in (Status.OK, Status.DEADLINE_EXCEEDED, Status.UNIMPLEMENTED)
    assert caught.value.message


async def test_daemon_keeps_the_deadline(daemon: Daemon) -> None:
    """The progress of a build that nobody has started: waiting for it ends when it was said to end."""
    async with control(daemon) as channel:
        with pytest.raises(RpcError) as caught:
            async with channel.stream(CONTROL + "Status", v1.StatusRequest(ref="asking-2"), BYTES, timeout=0.2) as call:
                await call.recv()
        assert caught.value.code == Status.DEADLINE_EXCEEDED
        # The connection is none the worse for it.
        await channel.unary(CONTROL + "ListWorkers", v1.ListWorkersRequest(), v1.ListWorkersResponse, timeout=PATIENCE)


async def test_daemon_and_many_calls(daemon: Daemon) -> None:
    """More at once than it takes (250)."""
    async with control(daemon) as channel:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as calls:
                for _ in range(300):
                    calls.start_soon(
                        channel.unary, CONTROL + "ListWorkers", v1.ListWorkersRequest(), v1.ListWorkersResponse
                    )
        assert channel.connection.open_streams == 0
