"""Services of the caller's own, called over a real connection, and what is refused when they are made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scripted_peer import PATIENCE, grpc_message, request, serving

import buildkit_session as bk
from buildkit_session.grpc.router import Router
from buildkit_session.messages.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.health import Health

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

CHECK = b"/grpc.health.v1.Health/Check"
CANCEL = 8


class Json:
    """A codec of the caller's own."""

    def encode(self, message: Any, /) -> bytes:
        return json.dumps(message).encode()

    def decode(self, body: Any, /) -> Any:
        return json.loads(bytes(body))


def routed(service: bk.Service) -> Router:
    return Router([*service.routes(), *Health().routes()])


@pytest.fixture
def greeter() -> bk.Service:
    """One method of each kind."""
    greeter = bk.Service("example.v1.Greeter")

    @greeter.unary("Hello")
    async def hello(request: bytes) -> bytes:
        if not request:
            raise bk.RpcError(bk.Status.INVALID_ARGUMENT, "a name is needed")
        return b"Hello " + request

    @greeter.unary("Typed", request=HealthCheckRequest, response=Json())
    async def typed(request: HealthCheckRequest) -> object:
        return {"name": request.service}

    @greeter.stream("Chat", request=bytes, response=BytesMessage)
    async def chat(call: bk.IncomingCall[bytes, BytesMessage]) -> None:
        while (message := await call.recv()) is not None:
            await call.send(BytesMessage(data=message))

    return greeter


async def test_methods_of_each_kind(greeter: bk.Service) -> None:
    """Bytes by default; message types and codecs where they are named; names match as those of other services do."""
    async with serving(routed(greeter)) as peer:
        hello = await peer.call(b"/example.v1.Greeter/Hello", b"you")
        typed = await peer.call(b"/EXAMPLE.v1.greeter/typed", bytes(HealthCheckRequest(service="x")))
        chat = await peer.call(b"/example.v1.Greeter/Chat", b"a", b"b")
    assert hello.bodies == [b"Hello you"]
    assert typed.bodies == [b'{"name": "x"}']
    assert chat.bodies == [b"\x0a\x01a", b"\x0a\x01b"]
    assert [answer.status for answer in (hello, typed, chat)] == [b"0"] * 3
    assert repr(greeter) == "<Service example.v1.Greeter ['Chat', 'Hello', 'Typed']>"


async def test_one_path_with_two_types_of_message() -> None:
    """The codecs are selected for each call anew, from its metadata."""
    service = bk.Service("example.v1.Two")
    seen: list[object] = []

    def select(metadata: bk.Metadata) -> Any:
        match metadata.get("kind"):
            case "message":
                return BytesMessage, HealthCheckResponse
            case None:
                return bytes, Json()
        raise bk.RpcError(bk.Status.INVALID_ARGUMENT, "no such kind")

    @service.stream("Take", select=select)
    async def take(call: bk.IncomingCall[Any, Any]) -> None:
        seen.append(await call.recv())
        await call.send(HealthCheckResponse() if call.metadata.get("kind") else seen[-1].decode())  # type: ignore[attr-defined]

    path = b"/example.v1.Two/Take"
    async with serving(Router(service.routes())) as peer:
        message = await peer.call(path, b"\x0a\x01x", extra=[(b"kind", b"message")])
        plain = await peer.call(path, b"\x0a\x01x")
        other = await peer.call(path, b"", extra=[(b"kind", b"other")])
    assert seen == [BytesMessage(data=b"x"), b"\x0a\x01x"]
    assert (message.bodies, plain.bodies) == ([b""], [b'"\\n\\u0001x"'])
    assert (other.status, other.message) == (b"3", b"no such kind")


async def test_misuse_by_the_daemon(greeter: bk.Service) -> None:
    async with serving(routed(greeter)) as peer:
        hello = b"/example.v1.Greeter/Hello"
        unknown = await peer.call(b"/example.v1.Greeter/Bye", b"")
        none, two = await peer.call(hello), await peer.call(hello, b"a", b"b")
        chosen = await peer.call(hello, b"")
        malformed = await peer.call(b"/example.v1.Greeter/Typed", b"\x0a\x09cut")
        stream_id = await peer.open(request(hello))
        await peer.send(stream_id, b"\0" + (16 * 1024 * 1024 + 1).to_bytes(4, "big"))
        oversized = await peer.answer(stream_id)
        assert (await peer.call(CHECK, b"")).status == b"0"
    answers = [unknown, none, two, chosen, malformed, oversized]
    assert [answer.status for answer in answers] == [b"12", b"13", b"13", b"3", b"13", b"8"]
    assert chosen.message == b"a name is needed"


async def returns_none(_request: bytes) -> None:
    return None


async def returns_text_in_bytes(_request: bytes) -> bytes:
    return b"text"


async def returns_text(_request: bytes) -> str:
    return "text"


async def fails(_request: bytes) -> bytes:
    raise RuntimeError("hunter2 in /home/user")


@pytest.mark.parametrize(
    ("handler", "error"),
    [(returns_none, "LocalProtocolError"), (returns_text, "LocalProtocolError"), (fails, "RuntimeError")],
)
async def test_a_handler_with_a_fault(handler: Callable[[bytes], Awaitable[Any]], error: str) -> None:
    """The daemon learns the type alone; who owns the session gets the exception."""
    service = bk.Service("example.v1.Faulty")
    service.unary("Call")(handler)
    errors: list[Exception] = []
    async with serving(routed(service), on_error=lambda _path, error: errors.append(error)) as peer:
        answer = await peer.call(b"/example.v1.Faulty/Call", b"")
    assert (answer.status, answer.message, answer.bodies) == (b"13", f"the client failed: {error}".encode(), [])
    assert [type(one).__name__ for one in errors] == [error]


@pytest.mark.parametrize(("response", "sent"), [(bytes, "text"), (HealthCheckResponse, 5), (HealthCheckResponse, b"")])
async def test_a_handler_that_sends_what_is_no_message(response: Any, sent: object) -> None:
    """Five of something is not five zero bytes."""
    service = bk.Service("example.v1.Faulty")

    @service.unary("Call", response=response)
    async def call(_request: bytes) -> object:
        return sent

    errors: list[Exception] = []
    async with serving(routed(service), on_error=lambda _path, error: errors.append(error)) as peer:
        assert (await peer.call(b"/example.v1.Faulty/Call", b"")).bodies == []
    assert re.match(rf"the handler of Call must send {response.__name__}, not an? \w+; say", str(errors[0]))


def test_a_decorator_without_its_method() -> None:
    service = bk.Service("example.v1.A")
    with pytest.raises(bk.InputError, match=r"take the name of a method: @service\.unary\('Hello'\)"):

        @service.unary  # type: ignore[arg-type]  # what is tested
        async def hello(request: bytes) -> bytes:
            return request


async def test_a_handler_that_waits_delays_no_other_and_is_cancelled() -> None:
    service = bk.Service("example.v1.Slow")
    started, ended = anyio.Event(), anyio.Event()

    @service.unary("Call")
    async def call(request: bytes) -> bytes:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        return request

    async with serving(routed(service)) as peer:
        stream_id = await peer.open(request(b"/example.v1.Slow/Call"))
        await peer.send(stream_id, grpc_message(b""), end=True)
        with anyio.fail_after(PATIENCE):
            await started.wait()
            assert (await peer.call(CHECK, b"")).status == b"0"
            assert not ended.is_set()
            await peer.reset(stream_id, CANCEL)
            await ended.wait()


async def test_subjects_of_ones_own() -> None:
    service = bk.Service("example.v1.Named")
    service.unary("One", subject=lambda request: f"one {request.decode()}")(returns_none)
    subjects: list[str] = []

    @service.stream("Many", subject=lambda metadata: metadata.get("name") or "")
    async def many(_call: bk.IncomingCall[bytes, bytes]) -> None:
        return

    async def look(call: bk.ServedCall, proceed: Callable[[], Awaitable[None]]) -> None:
        await proceed()
        subjects.append(call.subject)

    async with serving(Router(service.routes()), interceptors=[look]) as peer:
        await peer.call(b"/example.v1.Named/One", b"x")
        await peer.call(b"/example.v1.Named/Many", extra=[(b"name", b"y")])
    assert subjects == ["one x", "y"]


async def test_the_documented_guard() -> None:
    """The interceptor that docs/services.md shows."""
    text = (Path(bk.__file__).parents[1] / "docs" / "services.md").read_text()
    names: dict[str, Any] = {"bk": bk, "anyio": anyio, "Callable": object, "Awaitable": object}
    exec("from __future__ import annotations\n" + re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1], names)  # noqa: S102
    service = bk.Service("example.v1.Named")
    service.unary("One", subject=bytes.decode)(returns_text_in_bytes)
    async with serving(Router(service.routes()), interceptors=[names["guard"]]) as peer:
        refused = await peer.call(b"/example.v1.Named/One", b"production")
        served = await peer.call(b"/example.v1.Named/One", b"staging")
    assert (refused.status, refused.message) == (b"7", b"not from this machine")
    assert served.bodies == [b"text"]


# -- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Greeter",
        "",
        "a.b/C",
        "a..B",
        ".a.B",
        "a.B.",
        "a.B\r\nX: y",
        "a.B\n",
        "a b.C",
        "a.B\0",
        "é.A",
        "a." + "B" * 300,
        5,
    ],
)
def test_names_of_services(name: Any) -> None:
    with pytest.raises(bk.InputError, match=r"package\.Service, such as example\.v1\.Greeter, not"):
        bk.Service(name)


@pytest.mark.parametrize("method", ["", "a.B", "A/B", "/A", "A\n", "A B", "\u212aind", 5])
def test_names_of_methods(method: Any) -> None:
    with pytest.raises(bk.InputError, match=r"a method of example\.v1\.A has a name such as Hello, not"):
        bk.Service("example.v1.A").unary(method)(returns_none)


def not_async(request: bytes) -> bytes:
    return request


@pytest.mark.parametrize(
    ("arguments", "handler", "message"),
    [
        ({}, not_async, "must be a coroutine function, written with 'async def', not an ordinary one"),
        ({}, 5, "the handler of /example.v1.A/Call must be a coroutine function, not an int"),
        (
            {"request": str},
            fails,
            r"a type of betterproto2 or an object with encode\(\) and decode\(\), not <class 'str'>",
        ),
        ({"response": object()}, fails, "a type of betterproto2 or an object"),
        ({"select": 5}, fails, "select must be a function"),
        ({"select": fails, "request": BytesMessage}, fails, "takes the place of request and response"),
    ],
)
def test_handlers_and_codecs(arguments: Any, handler: Any, message: str) -> None:
    with pytest.raises(bk.InputError, match=message):
        bk.Service("example.v1.A").unary("Call", **arguments)(handler)


def test_a_method_has_one_handler(greeter: bk.Service) -> None:
    with pytest.raises(bk.InputError, match=r"the method /example\.v1\.Greeter/HELLO has a handler already"):
        greeter.stream("HELLO")(fails)
