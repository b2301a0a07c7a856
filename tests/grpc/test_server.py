"""Calls over a real connection: a script plays the client, handlers are the servers."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from h2.settings import SettingCodes
from scripted_peer import PATIENCE, Answer, Peer, grpc_message, request, serving
from tricky_cases import tricky

from buildkit_session.errors import ConnectionClosed, RpcError, StreamReset
from buildkit_session.grpc import server
from buildkit_session.grpc.codec import BYTES, MessageCodec
from buildkit_session.grpc.router import Codecs, Route, Router, messages, unary
from buildkit_session.grpc.status import Status
from buildkit_session.http2.core import Core
from buildkit_session.messages.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.health import Health

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.metadata import Metadata

pytestmark = pytest.mark.anyio

PATH = b"/test.Test/Call"
CHECK = b"/grpc.health.v1.Health/Check"
CANCEL = 8


def raw(handler: Callable[[IncomingCall[bytes, bytes]], Awaitable[None]], *, ends_itself: bool = False) -> Router:
    """Serves ``handler`` with messages as they are, and Health."""
    route = Route(PATH.decode(), handler, lambda _metadata: Codecs(BYTES, BYTES), ends_itself=ends_itself)
    return Router([route, *Health().routes()])


async def echo(call: IncomingCall[bytes, bytes]) -> None:
    while (body := await call.recv()) is not None:
        await call.send(body)


async def count(call: IncomingCall[bytes, bytes]) -> None:
    """Answer once, with the number of messages and their bytes."""
    number = size = 0
    while bodies := await call.recv_many():
        number += len(bodies)
        size += sum(map(len, bodies))
    await call.send(b"%d %d" % (number, size))


async def never(_call: IncomingCall[bytes, bytes]) -> None:
    await anyio.sleep_forever()


class Recorder:
    """A handler that says how it ended."""

    def __init__(self, serve: Callable[[IncomingCall[bytes, bytes]], Awaitable[None]]) -> None:
        self.started = anyio.Event()
        self.ended = anyio.Event()
        self.error: BaseException | None = None
        self._serve = serve

    async def __call__(self, call: IncomingCall[bytes, bytes]) -> None:
        self.started.set()
        try:
            await self._serve(call)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    @property
    def cancelled(self) -> bool:
        return isinstance(self.error, anyio.get_cancelled_exc_class())


async def until(event: anyio.Event) -> None:
    with anyio.fail_after(PATIENCE):
        await event.wait()


async def assert_healthy(peer: Peer) -> None:
    answer = await peer.call(CHECK, b"")
    assert answer.status == b"0"
    assert answer.bodies == [b"\x08\x01"]


# -- messages -----------------------------------------------------------------------------------------------------


async def test_echo() -> None:
    """Messages of all sizes, the empty one and one of many frames included, come back in order."""
    bodies = [b"one", b"", b"x" * 1_000_000, b"end"]
    async with serving(raw(echo)) as peer:
        answer = await peer.call(PATH, *bodies)

    assert answer.bodies == bodies
    assert answer.headers[:2] == [(b":status", b"200"), (b"content-type", b"application/grpc")]
    assert answer.trailers == [(b"grpc-status", b"0")]
    assert answer.reset is None


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_messages_in_pieces(size: int) -> None:
    """GR-06: prefix and body may be split anywhere."""
    wire = b"".join(map(grpc_message, [b"abc", b"", b"d" * 500]))
    async with serving(raw(echo)) as peer:
        stream_id = await peer.open()
        for start in range(0, len(wire), size):
            await peer.send(stream_id, wire[start : start + size])
        await peer.send(stream_id, b"", end=True)
        answer = await peer.answer(stream_id)

    assert answer.bodies == [b"abc", b"", b"d" * 500]


async def test_hundred_calls_at_once() -> None:
    """Interleaved message by message, each stream gets its own answers in order."""
    async with serving(raw(echo)) as peer:
        streams = [await peer.open() for _ in range(100)]
        for turn in range(20):
            for stream_id in streams:
                await peer.send(stream_id, grpc_message(b"%d of %d" % (turn, stream_id)), end=turn == 19)
        answers = {stream_id: await peer.answer(stream_id) for stream_id in streams}

    for stream_id, answer in answers.items():
        assert answer.bodies == [b"%d of %d" % (turn, stream_id) for turn in range(20)]
        assert answer.status == b"0"


async def test_many_calls_leave_nothing_behind() -> None:
    """FC-07 for calls that end with unread data: the window is whole, no stream is kept."""

    async def refuse(_call: IncomingCall[bytes, bytes]) -> None:
        raise RpcError(Status.NOT_FOUND)

    async with serving(raw(refuse)) as peer:
        for _ in range(1000):
            stream_id = await peer.open()
            await peer.send(stream_id, grpc_message(b"x" * 5000))
            await peer.answer(stream_id)
        await peer.ping()
        assert peer.connection.open_streams == 0
        assert peer.h2.outbound_flow_control_window > 500_000


async def test_messages_before_a_fault() -> None:
    """What was whole before a malformed message is handed out first, even if it came in the same frame."""
    seen: list[bytes] = []

    async def keep(call: IncomingCall[bytes, bytes]) -> None:
        while bodies := await call.recv_many():
            seen.extend(bodies)

    async with serving(raw(keep)) as peer:
        stream_id = await peer.open()
        await peer.send(stream_id, grpc_message(b"a") + grpc_message(b"b") + b"\x09")
        answer = await peer.answer(stream_id)

    assert seen == [b"a", b"b"]
    assert answer.status == b"13"


async def test_request_that_cannot_be_decoded() -> None:
    """GR-10: INTERNAL for that call alone, after the requests before it, on ``recv`` and on ``recv_many``."""
    seen: list[bytes] = []

    async def keep(call: IncomingCall[BytesMessage, Any]) -> None:
        seen.extend([message.data for message in await call.recv_many()])
        await call.recv()

    router = Router([Route(PATH.decode(), keep, messages(BytesMessage, BytesMessage)), *Health().routes()])
    async with serving(router) as peer:
        answer = await peer.call(PATH, b"\x0a\x01a", b"\x0a\x09cut")
        await assert_healthy(peer)

    assert seen == [b"a"]
    assert answer.status == b"13"
    assert answer.message == b"cannot decode a message of 5 bytes"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\0\xff\xff\xff\xff", b"8"),  # GR-08, on the prefix
        (b"\x01\0\0\0\x01x", b"13"),  # GR-07
        (b"\xff", b"13"),
    ],
)
async def test_refused_messages(data: bytes, status: bytes) -> None:
    async with serving(raw(echo)) as peer:
        stream_id = await peer.open()
        await peer.send(stream_id, data)
        answer = await peer.answer(stream_id)
        await assert_healthy(peer)

    assert answer.status == status


async def test_end_inside_a_message() -> None:
    """GR-09."""
    async with serving(raw(echo)) as peer:
        stream_id = await peer.open()
        await peer.send(stream_id, grpc_message(b"abc")[:-1], end=True)
        answer = await peer.answer(stream_id)

    assert answer.status == b"13"


# -- choosing the handler and the codec -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [b"/test.Test/Other", b"/other.Test/Call", b"test.Test/Call", b"/test.Test/Call/", b"*", b"/%74est.Test/Call"],
)
async def test_unknown_method(path: bytes) -> None:
    """GR-01, GR-02: UNIMPLEMENTED in one frame with the headers, no handler runs."""
    async with serving(raw(never)) as peer:
        answer = await peer.call(path, b"")
        await assert_healthy(peer)

    assert answer.status == b"12"
    assert answer.trailers == []
    assert answer.data == b""


async def test_path_that_only_looks_alike() -> None:
    """A Kelvin sign in lower case is a k: it is still another method."""
    router = Router([Route("/k.K/K", never, lambda _metadata: Codecs(BYTES, BYTES))])
    async with serving(router) as peer:
        stream_id = await peer.open(request("/\u212a.K/K".encode()), end=True)
        answer = await peer.answer(stream_id)

    assert answer.reset == 1
    assert answer.status is None


async def test_method_without_regard_to_case() -> None:
    async with serving(raw(echo)) as peer:
        answer = await peer.call(PATH.upper(), b"x")

    assert answer.bodies == [b"x"]


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        (b":method", b"GET", b"405"),
        (b"content-type", b"application/json", b"415"),
        (b"content-type", b"application/grpc-web", b"415"),
    ],
)
async def test_not_grpc(field: bytes, value: bytes, status: bytes) -> None:
    """GR-03: an HTTP status without a gRPC one."""
    headers = [(name, value if name == field else old) for name, old in request()]
    async with serving(raw(never)) as peer:
        stream_id = await peer.open(headers, end=True)
        answer = await peer.answer(stream_id)

    assert answer.headers == [(b":status", status)]


@pytest.mark.parametrize("content_type", [b"application/grpc+proto", b"application/grpc; charset=utf-8"])
async def test_content_types(content_type: bytes) -> None:
    headers = [(name, content_type if name == b"content-type" else old) for name, old in request()]
    async with serving(raw(echo)) as peer:
        stream_id = await peer.open(headers, end=True)
        answer = await peer.answer(stream_id)

    assert answer.status == b"0"


@tricky(31)
async def test_codec_is_selected_for_each_stream() -> None:
    """One path carries two protocols at the same time; the metadata of the stream says which."""
    seen: list[object] = []

    def select(metadata: Metadata) -> Codecs:
        if metadata.get("kind") == "message":
            return Codecs(MessageCodec(BytesMessage), MessageCodec(BytesMessage))
        return Codecs(BYTES, BYTES)

    async def handler(call: IncomingCall[Any, Any]) -> None:
        request = await call.recv()
        seen.append(request)
        await call.send(request)

    async with serving(Router([Route(PATH.decode(), handler, select)])) as peer:
        first = await peer.open(request(PATH, (b"kind", b"message")))
        second = await peer.open(request(PATH))
        answers = []
        for stream_id in (second, first):
            await peer.send(stream_id, grpc_message(b"\x0a\x01x"), end=True)
            answers.append(await peer.answer(stream_id))

    assert seen == [b"\x0a\x01x", BytesMessage(data=b"x")]
    assert [answer.bodies for answer in answers] == [[b"\x0a\x01x"]] * 2


async def test_selection_can_refuse() -> None:
    def select(_metadata: Metadata) -> Codecs:
        raise RpcError(Status.UNKNOWN, "exporter 7 not found", details=b"\x08\x02")

    async with serving(Router([Route(PATH.decode(), never, select)])) as peer:
        answer = await peer.call(PATH)

    assert (answer.status, answer.message) == (b"2", b"exporter 7 not found")
    assert dict(answer.headers)[b"grpc-status-details-bin"] == b64encode(b"\x08\x02")


@tricky(9, 10)
async def test_metadata() -> None:
    """Outer spaces, repeated keys and binary values reach the handler; what is HTTP/2's or gRPC's does not."""
    seen: list[Metadata] = []

    async def handler(call: IncomingCall[bytes, bytes]) -> None:
        seen.append(call.metadata)

    extra = [(b"p", b" a "), (b"p", b"\xff"), (b"b-bin", b"AAE"), (b"grpc-timeout", b"1H")]
    async with serving(raw(handler)) as peer:
        await peer.call(PATH, extra=extra)

    [metadata] = seen
    assert metadata.get_all("p") == [" a ", "\udcff"]
    assert metadata.get_binary("b-bin") == [b"\0\1"]
    assert sorted(metadata) == ["b-bin", "p", "p"]


async def test_unknown_compression() -> None:
    """GR-07: UNIMPLEMENTED, with what is accepted."""
    async with serving(raw(never)) as peer:
        answer = await peer.call(PATH, extra=[(b"grpc-encoding", b"gzip")])

    assert answer.status == b"12"
    assert (b"grpc-accept-encoding", b"identity") in answer.headers


@pytest.mark.parametrize("bodies", [[], [b"", b""]])
async def test_unary_with_another_number_of_messages(bodies: list[bytes]) -> None:
    """GR-11."""
    async with serving(raw(never)) as peer:
        answer = await peer.call(CHECK, *bodies)

    assert answer.status == b"13"
    assert answer.data == b""


async def test_unary() -> None:
    async def answer(request: HealthCheckRequest) -> HealthCheckResponse:
        assert request.service == "x"
        return HealthCheckResponse()

    router = Router([Route(PATH.decode(), unary(answer), messages(HealthCheckRequest, HealthCheckResponse))])
    async with serving(router) as peer:
        got = await peer.call(PATH, bytes(HealthCheckRequest(service="x")))

    assert (got.status, got.bodies) == (b"0", [b""])


# -- how calls end --------------------------------------------------------------------------------------------------


async def test_status_with_text_and_details() -> None:
    """The text is percent-encoded, the details are base64, both come after what was sent."""

    async def handler(call: IncomingCall[bytes, bytes]) -> None:
        await call.send(b"partial")
        raise RpcError(Status.NOT_FOUND, "no ü: 100%", details=b"\x08\x05")

    errors: list[tuple[str, Exception]] = []
    async with serving(raw(handler), on_error=lambda path, error: errors.append((path, error))) as peer:
        answer = await peer.call(PATH)

    assert answer.bodies == [b"partial"]
    assert answer.trailers == [
        (b"grpc-status", b"5"),
        (b"grpc-message", b"no %C3%BC: 100%25"),
        (b"grpc-status-details-bin", b64encode(b"\x08\x05")),
    ]
    assert [(path, type(error)) for path, error in errors] == [(PATH.decode(), RpcError)]


@tricky(39)
async def test_early_end() -> None:
    """GR-15: the client has not ended its side; RST_STREAM(NO_ERROR) follows the trailers."""

    async def handler(_call: IncomingCall[bytes, bytes]) -> None:
        return

    async with serving(raw(handler)) as peer:
        stream_id = await peer.open()
        answer = await peer.answer(stream_id)
        await peer.ping()

    assert (answer.status, answer.ended, answer.reset) == (b"0", True, 0)


async def test_exceptions_reveal_nothing() -> None:
    """GR-14: the peer learns the type, ``on_error`` the exception; other calls go on."""

    async def handler(_call: IncomingCall[bytes, bytes]) -> None:
        raise FileNotFoundError(2, "No such file", "/home/user/.ssh/id_ed25519")

    errors: list[Exception] = []
    async with serving(raw(handler), on_error=lambda _path, error: errors.append(error)) as peer:
        answer = await peer.call(PATH)
        await assert_healthy(peer)

    assert answer.status == b"13"
    assert answer.message == b"the client failed: FileNotFoundError"
    assert isinstance(errors[0], FileNotFoundError)


async def does_it(_call: IncomingCall[bytes, bytes]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.sleep_forever()


async def raises_it(_call: IncomingCall[bytes, bytes]) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(("handler", "status"), [(raises_it, b"13"), (does_it, None)])
async def test_a_handler_that_cancels_itself(
    handler: Callable[[IncomingCall[bytes, bytes]], Awaitable[None]], status: bytes | None
) -> None:
    """It ends its own call alone: the group of all calls would take that for its own end."""
    async with serving(raw(handler)) as peer:
        answer = await peer.call(PATH)
        await assert_healthy(peer)
    assert answer.status == status


async def test_first_cause_of_a_group() -> None:
    """A handler with tasks of its own fails with a group; the status is what the first task wanted."""

    async def task() -> None:
        raise RpcError(Status.DATA_LOSS, "from a task")

    async def handler(_call: IncomingCall[bytes, bytes]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(task)
            tasks.start_soon(anyio.sleep_forever)

    async with serving(raw(handler)) as peer:
        answer = await peer.call(PATH)

    assert (answer.status, answer.message) == (b"15", b"from a task")


async def test_another_streams_reset_is_a_failure_like_any() -> None:
    """A handler that relays fails with the error of another stream: its own peer must still hear of an end."""

    async def handler(_call: IncomingCall[bytes, bytes]) -> None:
        raise ConnectionClosed("the agent has gone")

    async with serving(raw(handler)) as peer:
        answer = await peer.call(PATH)

    assert answer.status == b"13"


@pytest.mark.parametrize("value", [b"1m", b"1n", b"50m"])
async def test_deadline(value: bytes) -> None:
    """GR-05: the handler is cancelled, the status is DEADLINE_EXCEEDED."""
    handler = Recorder(never)
    async with serving(raw(handler)) as peer:
        answer = await peer.call(PATH, extra=[(b"grpc-timeout", value)])

    assert answer.status == b"4"
    assert handler.cancelled


async def test_deadline_of_nothing() -> None:
    """GR-04: ``0S`` has expired; no handler runs."""
    handler = Recorder(never)
    async with serving(raw(handler)) as peer:
        answer = await peer.call(PATH, extra=[(b"grpc-timeout", b"0S")])

    assert answer.status == b"4"
    assert not handler.started.is_set()


@pytest.mark.parametrize("value", [b"-1S", b"1", b"123456789S", b"1 S"])
async def test_malformed_deadline(value: bytes) -> None:
    """GR-04: INTERNAL; no handler runs."""
    handler = Recorder(never)
    async with serving(raw(handler)) as peer:
        answer = await peer.call(PATH, extra=[(b"grpc-timeout", value)])

    assert answer.status == b"13"
    assert not handler.started.is_set()


async def test_deadline_that_is_kept() -> None:
    async with serving(raw(echo)) as peer:
        answer = await peer.call(PATH, b"x", extra=[(b"grpc-timeout", b"99999999H")])

    assert answer.status == b"0"


@tricky(41)
async def test_reset_cancels_the_handler() -> None:
    """Wherever it waits; nothing is sent on the stream any more, and ``on_error`` hears of the reset."""
    handler = Recorder(never)
    errors: list[Exception] = []
    async with serving(raw(handler), on_error=lambda _path, error: errors.append(error)) as peer:
        stream_id = await peer.open()
        await until(handler.started)
        await peer.reset(stream_id, CANCEL)
        await until(handler.ended)
        await peer.ping()
        await assert_healthy(peer)

    assert handler.cancelled
    assert peer.answers[stream_id] == Answer()
    assert isinstance(errors[0], StreamReset)
    assert errors[0].code == CANCEL


async def test_reset_in_the_same_read_as_the_request() -> None:
    """The handler never starts, or is cancelled; the connection goes on."""
    handler = Recorder(never)
    async with serving(raw(handler)) as peer:
        peer.h2.send_headers(1, request(PATH))
        peer.h2.reset_stream(1, CANCEL)
        await peer.flush()
        await peer.ping()
        await assert_healthy(peer)

    assert not handler.started.is_set() or handler.cancelled


@tricky(28)
async def test_reset_behind_the_last_messages() -> None:
    """With ``ends_itself`` all that came before the reset is handed out first, be it one read with the request."""
    seen: list[bytes] = []

    async def keep(call: IncomingCall[bytes, bytes]) -> None:
        while (body := await call.recv()) is not None:
            seen.append(body)

    handler = Recorder(keep)
    async with serving(raw(handler, ends_itself=True)) as peer:
        peer.h2.send_headers(1, request(PATH))
        peer.h2.send_data(1, grpc_message(b"a") + grpc_message(b"b"))
        peer.h2.reset_stream(1, CANCEL)
        await peer.flush()
        await until(handler.ended)

    assert seen == [b"a", b"b"]
    assert isinstance(handler.error, StreamReset)


async def test_our_end_resets_open_calls() -> None:
    """When the owner of the calls cancels them, the peer is told CANCEL."""
    handler = Recorder(never)
    async with serving(raw(handler)) as peer:
        stream_id = await peer.open()
        await until(handler.started)
        peer.cancel_calls()
        answer = await peer.answer(stream_id)

    assert answer.reset == CANCEL
    assert handler.cancelled


async def test_lost_connection_cancels_handlers() -> None:
    handler = Recorder(never)
    async with serving(raw(handler)) as peer:
        await peer.open()
        await until(handler.started)
        peer.connection.abort()
        await until(handler.ended)

    assert handler.cancelled


# -- slow sides -----------------------------------------------------------------------------------------------------


@tricky(5)
async def test_stalled_handlers_leave_room_for_health() -> None:
    """FC-06: eight handlers that read nothing, each at its full window, and Health is still answered."""
    async with serving(raw(never), core=Core(stream_window=100_000)) as peer:
        for _ in range(8):
            stream_id = await peer.open()
            await peer.send(stream_id, grpc_message(b"x" * 99_995))
            assert peer.h2.local_flow_control_window(stream_id) == 0
        await assert_healthy(peer)
        assert peer.h2.outbound_flow_control_window > 0


async def test_stalled_reader_leaves_room_for_others() -> None:
    """FC-11: a client that reads one stream no further gets the others whole."""

    async def flood(call: IncomingCall[bytes, bytes]) -> None:
        while True:
            await call.send(b"x" * 20_000)

    route = Route("/test.Test/Flood", flood, lambda _metadata: Codecs(BYTES, BYTES))
    router = raw(echo)
    router.add(route)
    async with serving(router) as peer:
        peer.returns_credit = False
        stalled = await peer.open(request(b"/test.Test/Flood"))
        await peer.until(lambda: len(peer.answers[stalled].data) == 65535)
        peer.returns_credit = True
        peer.h2.increment_flow_control_window(1_000_000)
        await peer.flush()
        answer = await peer.call(PATH, b"y" * 500_000)

    assert answer.bodies == [b"y" * 500_000]


async def test_a_request_that_is_complete_and_taken_back_at_once() -> None:
    """All frames in one read: the handler that waits ends all the same, however often that is done."""
    running = 0

    async def handler(call: IncomingCall[bytes, bytes]) -> None:
        nonlocal running
        running += 1
        try:
            await never(call)
        finally:
            running -= 1

    async with serving(raw(handler)) as peer:
        for _ in range(30):
            for split in (False, True):
                stream = peer.h2.get_next_available_stream_id()
                peer.h2.send_headers(stream, request(PATH))
                if split:  # the handler has begun when the rest comes
                    await peer.ping()
                peer.h2.send_data(stream, grpc_message(b"a"), end_stream=True)
                peer.h2.reset_stream(stream, CANCEL)
            await peer.ping()
        await assert_healthy(peer)
        await wait_all_tasks_blocked()
        assert running == 0
        assert peer.connection.open_streams == 0


async def test_calls_that_hold_large_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are served, others refused until those have ended; small ones always."""
    monkeypatch.setattr(server, "MAX_HEADERS", 20_000)
    large = [(b"pattern", b"x" * 8_000)]
    async with serving(raw(never)) as peer:
        held = [await peer.open(request(PATH, *large)) for _ in range(3)]
        await assert_healthy(peer)
        assert [peer.answers[stream].reset for stream in held] == [None, None, 7]
        await peer.reset(held[0])
        await wait_all_tasks_blocked()
        later = await peer.open(request(PATH, *large))
        await assert_healthy(peer)
        assert peer.answers[later].reset is None


async def test_many_small_messages_leave_others_their_turns() -> None:
    """An answer of some bytes to each request of some bytes: a large one holds hundreds of thousands."""
    turns = 0

    async def ticking() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async def answer(call: IncomingCall[bytes, bytes]) -> None:
        await call.recv()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ticking)
            for _ in range(5000):
                await call.send(b"a")
            tasks.cancel_scope.cancel()

    async with serving(raw(answer)) as peer:
        assert len((await peer.call(PATH, b"a")).bodies) == 5000
    assert turns > 20


async def test_windows_that_change_under_way() -> None:
    """INITIAL_WINDOW_SIZE and MAX_FRAME_SIZE go up and down during a transfer, and nothing is lost."""
    async with serving(raw(echo)) as peer:
        stream_id = await peer.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(peer.send, stream_id, grpc_message(bytes(range(250)) * 4000) * 2, end=True))
            for size in (1000, 0, 200_000, 65535, 30_000) * 4:
                await peer.settings({SettingCodes.INITIAL_WINDOW_SIZE: size, SettingCodes.MAX_FRAME_SIZE: 16384 + size})
        await peer.settings({SettingCodes.INITIAL_WINDOW_SIZE: 4_000_000})
        answer = await peer.answer(stream_id)

    assert answer.bodies == [bytes(range(250)) * 4000] * 2


async def test_large_request_through_a_small_window() -> None:
    """A message larger than the stream's window arrives: its pieces are consumed as they come."""
    async with serving(raw(count), core=Core(stream_window=65535)) as peer:
        answer = await peer.call(PATH, b"x" * 3_000_000, b"y")

    assert answer.bodies == [b"2 3000001"]


async def test_open_and_reset_pairs() -> None:
    """FL-04: handlers of reset streams really stop; the connection and Health live on."""
    running = 0

    async def busy(_call: IncomingCall[bytes, bytes]) -> None:
        nonlocal running
        running += 1
        try:
            await anyio.sleep_forever()
        finally:
            running -= 1

    async with serving(raw(busy)) as peer:
        for _ in range(20):
            for _ in range(100):
                stream_id = peer.h2.get_next_available_stream_id()
                peer.h2.send_headers(stream_id, request(PATH))
                peer.h2.reset_stream(stream_id, CANCEL)
            await peer.flush()
        await peer.ping()
        await assert_healthy(peer)
        assert running == 0
        assert peer.connection.open_streams == 0
