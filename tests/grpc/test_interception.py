"""Interceptors around calls over a real connection: what they see, what they may do, and how calls end under them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scripted_peer import PATIENCE, Peer, grpc_message, request, serving

from buildkit_session.errors import CallbackError, LocalProtocolError, RpcError, TransferError
from buildkit_session.grpc import interception
from buildkit_session.grpc.codec import BYTES
from buildkit_session.grpc.router import Codecs, Route, Router, of_metadata, of_request
from buildkit_session.grpc.status import Status
from buildkit_session.services.health import Health

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.interception import Interceptor
    from buildkit_session.grpc.metadata import Metadata
    from buildkit_session.grpc.router import Subject
    from buildkit_session.grpc.served_call import ServedCall

    Proceed = Callable[[], Awaitable[None]]
    Call = IncomingCall[bytes, bytes]

pytestmark = pytest.mark.anyio

PATH = b"/test.Test/Call"
CHECK = b"/grpc.health.v1.Health/Check"
CANCEL = 8
FIRST = of_request(bytes.decode)


async def echo(call: Call) -> None:
    while (body := await call.recv()) is not None:
        await call.send(body + b"!")


async def never(_call: Call) -> None:
    await anyio.sleep_forever()


class Watch:
    """An interceptor that keeps the calls, and says on the way back, after some waiting, how they ended."""

    def __init__(self) -> None:
        self.calls: list[ServedCall] = []
        self.ends: list[Status | None] = []
        self.started = anyio.Event()
        self.ended = anyio.Event()

    async def __call__(self, call: ServedCall, proceed: Proceed) -> None:
        self.calls.append(call)
        self.started.set()
        try:
            await proceed()
            await anyio.sleep(0.01)  # as who writes to a database
        finally:
            self.ends.append(call.status)
            self.ended.set()


class Errors(list[Exception]):
    def __call__(self, _path: str, error: Exception) -> None:
        self.append(error)


@asynccontextmanager
async def watched(
    handler: Callable[[Call], Awaitable[None]],
    *inner: Interceptor,
    subject: Subject | None = None,
    ends_itself: bool = False,
    errors: Errors | None = None,
) -> AsyncIterator[tuple[Peer, Watch]]:
    """Serve ``handler`` behind a watch and further interceptors."""

    def select(metadata: Metadata) -> Codecs:
        if metadata.get("refused"):
            raise RpcError(Status.UNKNOWN, "exporter 7 not found")
        return Codecs(BYTES, BYTES)

    route = Route(PATH.decode(), handler, select, ends_itself=ends_itself, subject=subject)
    watch = Watch()
    router = Router([route, *Health().routes()])
    async with serving(router, on_error=errors, interceptors=[watch, *inner]) as peer:
        yield peer, watch


async def until(event: anyio.Event) -> None:
    with anyio.fail_after(PATIENCE):
        await event.wait()


async def assert_healthy(peer: Peer) -> None:
    assert (await peer.call(CHECK, b"")).bodies == [b"\x08\x01"]


# -- what they see --------------------------------------------------------------------------------------------------


async def test_a_call_is_told() -> None:
    seen: list[tuple[str, Status | None, int]] = []

    async def look(call: ServedCall, proceed: Proceed) -> None:
        seen.append((call.subject, call.status, call.messages_in))
        await proceed()

    async with watched(echo, look, subject=FIRST) as (peer, watch):
        answer = await peer.call(PATH.upper(), b"one", b"", b"three", extra=[(b"key", b"value")])

    assert answer.bodies == [b"one!", b"!", b"three!"]
    assert seen == [("one", None, 0)]  # known before it proceeds, and the handler still gets the message
    [call] = watch.calls
    assert (call.method, call.session, call.subject) == (PATH.decode(), "abc", "one")
    assert call.metadata.get("key") == "value"
    assert (call.messages_in, call.bytes_in, call.messages_out, call.bytes_out) == (3, 8, 3, 11)
    assert (call.status, call.message) == (Status.OK, "")
    assert call.seconds == call.seconds > 0  # it stands still
    assert repr(call) == "<ServedCall /test.Test/Call 'one' OK in=8 out=11>"


async def test_order() -> None:
    """The first one is the outermost."""
    order: list[str] = []

    def named(name: str) -> Interceptor:
        async def interceptor(call: ServedCall, proceed: Proceed) -> None:
            order.append(f"{name} in")
            await proceed()
            order.append(f"{name} out")

        return interceptor

    async with watched(echo, named("a"), named("b")) as (peer, _):
        await peer.call(PATH)
    assert order == ["a in", "b in", "b out", "a out"]


@pytest.mark.parametrize(
    ("path", "extra", "status"),
    [
        (CHECK, [], Status.OK),
        (b"/no.Such/Method", [], Status.UNIMPLEMENTED),
        (b"/no.Such/" + b"x" * 1000, [], Status.UNIMPLEMENTED),
        (PATH, [(b"refused", b"1")], Status.UNKNOWN),
        (PATH, [(b"grpc-timeout", b"soon")], Status.INTERNAL),
    ],
)
async def test_all_calls_are_seen(path: bytes, extra: list[tuple[bytes, bytes]], status: Status) -> None:
    """Health, unknown methods and what cannot be served too; what the daemon wrote is bounded."""
    async with watched(echo) as (peer, watch):
        answer = await peer.call(path, b"", extra=extra)
    assert answer.status == b"%d" % status
    assert watch.ends == [status]
    assert len(watch.calls[0].method) <= 300


async def test_a_subject_is_safe_to_print() -> None:
    subject = of_metadata(lambda metadata: metadata.get("name") or "")
    async with watched(echo, subject=subject) as (peer, watch):
        await peer.call(PATH, extra=[(b"name", b"\x1b[2J\xff" + b"x" * 5000)])
    assert watch.calls[0].subject.startswith("\\x1b[2J\\udcff")
    assert len(watch.calls[0].subject) == 300


@pytest.mark.parametrize("wire", [b"", b"\x01\0\0\0\x01x", b"\0\xff\xff\xff\xff", grpc_message(b"\xff")])
async def test_a_subject_that_cannot_be_told(wire: bytes) -> None:
    """A malformed request is the handler's to refuse: it fails as it would without interceptors, or not at all."""
    answers = []
    for subject in (None, FIRST):
        async with watched(echo, subject=subject) as (peer, watch):
            stream_id = await peer.open()
            await peer.send(stream_id, wire, end=True)
            answers.append((await peer.answer(stream_id)).status)
        assert watch.calls[0].subject == ""
    assert answers[0] == answers[1]


# -- what they may do -----------------------------------------------------------------------------------------------


async def test_a_refusal() -> None:
    """No handler runs; the daemon and the interceptors further out get status and text."""

    async def refuse(call: ServedCall, _proceed: Proceed) -> None:
        if call.subject == "npm":
            raise RpcError(Status.PERMISSION_DENIED, "npm is not for this build")
        await _proceed()

    errors = Errors()
    async with watched(echo, refuse, subject=FIRST, errors=errors) as (peer, watch):
        refused = await peer.call(PATH, b"npm")
        served = await peer.call(PATH, b"other")

    assert (refused.status, refused.message, refused.bodies) == (b"7", b"npm is not for this build", [])
    assert served.bodies == [b"other!"]
    assert watch.ends == [Status.PERMISSION_DENIED, Status.OK]
    assert watch.calls[0].message == "npm is not for this build"
    assert [type(error) for error in errors] == [RpcError]


async def test_a_status_may_be_replaced_and_the_first_cause_is_kept() -> None:
    async def fail(call: Call) -> None:
        raise TransferError("/home/user/x is full")

    async def replace(call: ServedCall, proceed: Proceed) -> None:
        await proceed()
        assert (call.status, call.message) == (Status.INTERNAL, "the client failed: TransferError")
        raise RpcError(Status.RESOURCE_EXHAUSTED, "full")

    errors = Errors()
    async with watched(fail, replace, errors=errors) as (peer, watch):
        answer = await peer.call(PATH)
    assert (answer.status, answer.message) == (b"8", b"full")
    assert watch.ends == [Status.RESOURCE_EXHAUSTED]
    assert [type(error) for error in errors] == [TransferError, RpcError]


async def twice(_call: ServedCall, proceed: Proceed) -> None:
    await proceed()
    await proceed()


async def not_at_all(_call: ServedCall, _proceed: Proceed) -> None:
    return


async def broken(_call: ServedCall, _proceed: Proceed) -> None:
    raise KeyError("hunter2")


async def cancels_itself(_call: ServedCall, _proceed: Proceed) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("interceptor", "error"),
    [
        (twice, LocalProtocolError),
        (not_at_all, LocalProtocolError),
        (broken, KeyError),
        (cancels_itself, CallbackError),
    ],
)
async def test_mistakes(interceptor: Interceptor, error: type[Exception]) -> None:
    """The call fails with INTERNAL and the type alone; the rest goes on."""
    errors = Errors()
    async with watched(echo, interceptor, errors=errors) as (peer, watch):
        answer = await peer.call(PATH)
    assert (answer.status, answer.message) == (b"13", f"the client failed: {error.__name__}".encode())
    assert watch.ends == [Status.INTERNAL]
    assert [type(one) for one in errors] == [error]


async def test_a_failure_cannot_be_swallowed() -> None:
    async def fail(call: Call) -> None:
        raise RpcError(Status.DATA_LOSS, "gone")

    async def careless(_call: ServedCall, proceed: Proceed) -> None:
        with suppress(Exception):
            await proceed()

    async with watched(fail, careless) as (peer, _):
        assert (await peer.call(PATH)).status == b"15"


@pytest.mark.parametrize("raises", [True, False])
async def test_a_time_limit(raises: bool) -> None:
    """One that only moves on has no success to show either."""

    async def limited(_call: ServedCall, proceed: Proceed) -> None:
        with anyio.move_on_after(0.05) as limit:
            await proceed()
        if limit.cancelled_caught and raises:
            raise RpcError(Status.DEADLINE_EXCEEDED, "too slow")

    async with watched(never, limited) as (peer, watch):
        answer = await peer.call(PATH)
        await assert_healthy(peer)
    assert answer.status == (b"4" if raises else b"1")
    assert watch.ends[0] == (Status.DEADLINE_EXCEEDED if raises else Status.CANCELLED)


async def test_a_time_limit_of_asyncio() -> None:
    async def limited(_call: ServedCall, proceed: Proceed) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await proceed()

    async with watched(never, limited) as (peer, watch):
        answer = await peer.call(PATH)
        await assert_healthy(peer)
    assert answer.status == b"1"
    assert watch.ends[0] == Status.CANCELLED


# -- how calls end --------------------------------------------------------------------------------------------------


async def waits(call: ServedCall, proceed: Proceed) -> None:
    if call.method == PATH.decode():
        await anyio.sleep_forever()
    await proceed()


@pytest.mark.parametrize("inner", [(), (waits,)])
@pytest.mark.parametrize("value", [b"50m", b"0S"])
async def test_deadline(inner: tuple[Interceptor, ...], value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds for handlers and for interceptors that let a call wait; those around them finish their work."""
    monkeypatch.setattr(interception, "AFTERWARDS", 0.5)
    errors = Errors()
    async with watched(never, *inner, errors=errors) as (peer, watch):
        answer = await peer.call(PATH, extra=[(b"grpc-timeout", value)])
    assert (answer.status, answer.message) == (b"4", b"deadline exceeded")
    assert watch.ends == [Status.DEADLINE_EXCEEDED]
    assert [str(error) for error in errors] == ["gRPC status 4: deadline exceeded"]


async def test_deadline_of_nothing() -> None:
    """No handler runs, not even one that ends itself."""

    async def handler(_call: Call) -> None:
        pytest.fail("it has expired")

    async with watched(handler, ends_itself=True) as (peer, _):
        answer = await peer.call(PATH, extra=[(b"grpc-timeout", b"0S")])
    assert answer.status == b"4"


async def test_work_afterwards_may_take_longer_than_the_deadline() -> None:
    """The handler was in time."""

    async def slow(_call: ServedCall, proceed: Proceed) -> None:
        await proceed()
        await anyio.sleep_until(began + 1.1)

    async with watched(echo, slow) as (peer, watch):
        began = anyio.current_time()
        answer = await peer.call(PATH, b"x", extra=[(b"grpc-timeout", b"1S")])
    assert (answer.status, answer.bodies) == (b"0", [b"x!"])
    assert watch.ends == [Status.OK]


@pytest.mark.parametrize("inner", [(), (waits,)])
@pytest.mark.parametrize("subject", [None, FIRST])
async def test_reset(inner: tuple[Interceptor, ...], subject: Subject | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs is cancelled; what watches sees a call that was given up, even before there was a request."""
    monkeypatch.setattr(interception, "AFTERWARDS", 0.5)
    async with watched(never, *inner, subject=subject) as (peer, watch):
        stream_id = await peer.open()
        await peer.ping()
        await peer.reset(stream_id, CANCEL)
        await until(watch.ended)
        await assert_healthy(peer)
    assert watch.ends[0] == Status.CANCELLED
    assert watch.calls[0].message == "the daemon has given the call up"


async def test_interceptors_end_some_time_after_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are: handlers that hang are the daemon's to multiply."""
    monkeypatch.setattr(interception, "AFTERWARDS", 0.05)
    ended = 0

    async def lingers(_call: ServedCall, proceed: Proceed) -> None:
        nonlocal ended
        try:
            await proceed()
            await anyio.sleep_forever()
        finally:
            ended += 1

    async with watched(echo, lingers) as (peer, watch):
        for _ in range(50):
            stream_id = await peer.open()
            await peer.reset(stream_id, CANCEL)
        with anyio.fail_after(PATIENCE):
            while len(watch.ends) < 50:  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.01)
        await peer.ping()
        assert peer.connection.open_streams == 0
    assert ended == 50
    assert set(watch.ends) == {Status.CANCELLED}


async def test_all_before_a_reset_reaches_a_handler_that_ends_itself() -> None:
    """An interceptor that takes its time does not lose what a daemon has sent before it reset the stream."""
    seen: list[bytes] = []

    async def keep(call: Call) -> None:
        while (body := await call.recv()) is not None:
            seen.append(body)

    async def slow(_call: ServedCall, proceed: Proceed) -> None:
        await anyio.sleep(0.05)
        await proceed()

    async with watched(keep, slow, ends_itself=True) as (peer, watch):
        peer.h2.send_headers(1, request(PATH))
        peer.h2.send_data(1, grpc_message(b"a") + grpc_message(b"b"))
        peer.h2.reset_stream(1, CANCEL)
        await peer.flush()
        await until(watch.ended)
    assert seen == [b"a", b"b"]
    assert watch.ends == [Status.CANCELLED]


async def test_our_end_cancels_all() -> None:
    async with watched(never) as (peer, watch):
        stream_id = await peer.open()
        await until(watch.started)
        peer.cancel_calls()
        answer = await peer.answer(stream_id)
    assert answer.reset == CANCEL
    assert watch.ends == [Status.CANCELLED]


async def test_one_that_waits_delays_no_other() -> None:
    async with watched(echo, waits) as (peer, _):
        for _ in range(50):
            await peer.open()
        await assert_healthy(peer)


async def test_a_codec_of_several_pieces_is_counted() -> None:
    class Parts:
        def encode(self, _message: Any, /) -> tuple[bytes, ...]:
            return (b"ab", bytes(100_000))

        def decode(self, body: Any, /) -> Any:
            return bytes(body)

    watch = Watch()
    route = Route(PATH.decode(), echo, lambda _metadata: Codecs(BYTES, Parts()))
    async with serving(Router([route]), interceptors=[watch]) as peer:
        await peer.call(PATH, b"x")
    assert watch.calls[0].bytes_out == 100_002
