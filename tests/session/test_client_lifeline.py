"""What leaves the block of a build: the caller's own exception, unchanged, or the loss of the session."""

from __future__ import annotations

import re
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import pytest

import buildkit_session as bk
from buildkit_session.errors import TransferError
from buildkit_session.request.keywords import BuildKeywords
from buildkit_session.session import MAX_FAILURES, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.47\r\nServer: Docker/27 (linux)\r\nContent-Length: 0\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
LINE = b'{"stream":"hello"}\r\n'
EVENT = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n" % (len(LINE), LINE)
END = b"0\r\n\r\n"


class Engine:
    """Takes a session, which ends when the test says so, and gives ``answer`` to a build, whose connection stays."""

    def __init__(self, answer: bytes) -> None:
        self.hang_up = anyio.Event()
        self._answer = answer

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            head = await stream.receive()
            if b"/session " in head:
                await stream.send(SWITCHED)
                await self.hang_up.wait()
            elif b"/build?" in head:
                await stream.send(self._answer)
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
            else:
                await stream.send(PING)


@asynccontextmanager
async def scripted(answer: bytes) -> AsyncIterator[tuple[Engine, bk.Client]]:
    engine = Engine(answer)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 (that is Django's rule)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, engine.serve)
        with anyio.fail_after(30):
            async with bk.connect(f"tcp://127.0.0.1:{port}") as client:
                yield engine, client
        tasks.cancel_scope.cancel()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return tmp_path


async def test_loss_of_the_session_ends_the_wait(context: Path) -> None:
    """The build's own connection stays silent and open: only the session tells that nothing more will come."""
    async with scripted(EVENT) as (engine, client), client.start(context) as build:
        assert await anext(build) == bk.EngineText("hello")
        engine.hang_up.set()
        with pytest.raises(bk.ConnectionClosed, match=r"tcp://127.* closed the session"):
            await anext(build)


async def test_loss_of_the_session_does_not_cancel_the_caller(context: Path) -> None:
    async with scripted(EVENT) as (engine, client), client.start(context) as build:
        engine.hang_up.set()
        await build._lifeline._connection.closed.wait()
        await anyio.lowlevel.checkpoint()
        assert not build.finished


async def test_what_had_arrived_counts_after_the_loss(context: Path) -> None:
    """A session that ends with the build is no failure, however late the caller reads."""
    async with scripted(EVENT + END) as (engine, client), client.start(context) as build:
        assert await anext(build) == bk.EngineText("hello")
        await anyio.wait_all_tasks_blocked()
        engine.hang_up.set()
        await build._lifeline._connection.closed.wait()
        assert (await build.result()).image_id is None


async def test_the_callers_exception_passes_unchanged(context: Path) -> None:
    """A group of the caller's keeps all its members, and an exception its context."""
    mine = ExceptionGroup("mine", [ValueError("a"), KeyError("b")])
    async with scripted(EVENT) as (_, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.start(context):
                raise mine
    assert caught.value is mine
    assert mine.__cause__ is mine.__context__ is None


async def test_a_build_that_was_left_says_so(context: Path) -> None:
    async with scripted(EVENT) as (_, client):
        async with client.start(context) as build:
            pass
        with pytest.raises(bk.LocalProtocolError, match="left"):
            await build.result()


async def test_a_lone_text_is_one_tag(context: Path) -> None:
    async with scripted(EVENT + END) as (_, client):
        await client.build(context, tags="app:dev", platforms="linux/amd64", outputs="type=image")


async def test_build_arguments_are_in_no_error(context: Path) -> None:
    """The library below quotes the URL of the request, which holds them."""
    secret = "-".join(["not", "for", "logs"])
    async with scripted(b"nonsense\r\n\r\n") as (_, client):
        with pytest.raises(bk.EngineError, match="does not speak HTTP") as caught:
            await client.build(context, build_args={"TOKEN": secret})
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_a_name_that_no_header_field_can_hold_is_left_out() -> None:
    assert "X-Docker-Expose-Session-Name" not in dict(Session([], name="a\nb").headers)


def test_only_the_first_failures_are_remembered() -> None:
    session = Session([])
    for number in range(MAX_FAILURES + 1):
        session._failed("/a", TransferError(str(number)))
    assert len(session.failures) == MAX_FAILURES


async def test_a_client_is_entered_once(daemon: Daemon) -> None:
    """The first connection pool would be lost."""
    client = bk.connect(daemon.address)
    async with client:
        with pytest.raises(bk.LocalProtocolError, match="entered already"):
            await client.__aenter__()
        info = await client.info()
        assert info.engine is not None
        assert info.engine.os_type == "linux"


async def test_a_client_works_inside_of_its_block(context: Path) -> None:
    async with scripted(EVENT + END) as (_, client):
        await client.build(context, outputs="type=image")
        await client.aclose()
        with pytest.raises(bk.LocalProtocolError, match="'async with'"):
            await client.build(context)
        with pytest.raises(bk.LocalProtocolError, match="'async with'"):
            await client.disk_usage()
    with pytest.raises(bk.LocalProtocolError, match="'async with'"):
        await bk.connect("unix:///nowhere").info()


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("tag", r"Client\.build\(\) .*'tag'; did you mean tags\?"),
        ("build_arg", "did you mean build_args"),
        ("frontend_attr", "did you mean frontend_attrs"),
        ("call", r"keyword argument 'call'$"),
    ],
)
async def test_an_argument_that_there_is_not(keyword: str, message: str) -> None:
    keywords: dict[str, Any] = {keyword: "x"}
    with pytest.raises(TypeError, match=message):
        await bk.connect("unix:///nowhere").build(".", **keywords)


def test_help_names_all_keywords() -> None:
    listed = set(re.findall(r"``(\w+)``", bk.Client.build.__doc__ or ""))
    assert set(BuildKeywords.__annotations__) <= listed
