"""Forwarding ssh agents: scripted ones here, a real one in real builds."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from calls import ScriptedCall, serve

from buildkit_session.errors import InputError, RpcError
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.messages.moby.sshforward.v1 import CheckAgentRequest
from buildkit_session.services.agent_protocol import framed
from buildkit_session.services.agent_socket import AgentSocket
from buildkit_session.services.ssh import Ssh

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

LIST, SIGN, REMOVE_ALL, EXTENSION = b"\x0b", b"\x0dkey and data", b"\x13", b"\x1bsession-bind@openssh.com"
KEYS = b"\x0c" + b"k" * 100_000


@asynccontextmanager
async def listening(
    path: Path, converse: Callable[[StreamReader, StreamWriter], Awaitable[None]]
) -> AsyncIterator[None]:
    """A server that is done with all its connections in the end."""
    running = 0
    idle = anyio.Event()

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal running
        running += 1
        try:
            await converse(reader, writer)
        except OSError:  # the other end was quicker
            pass
        finally:
            writer.transport.abort()
            running -= 1
            idle.set()

    async with await asyncio.start_unix_server(handle, path, backlog=5):
        yield
        with anyio.fail_after(60):
            while running:
                idle = anyio.Event()
                await idle.wait()


@asynccontextmanager
async def agent(tmp_path: Path) -> AsyncIterator[list[bytes]]:
    """Lists many keys, and signs with a copy; yields the list of what it was asked."""
    asked: list[bytes] = []

    async def converse(reader: StreamReader, writer: StreamWriter) -> None:
        while size := int.from_bytes(await reader.read(4)):
            asked.append(await reader.readexactly(size))
            writer.write(framed(KEYS if asked[-1] == LIST else b"\x0e" + asked[-1]))
            await writer.drain()

    async with listening(tmp_path / "agent", converse):
        yield asked


def forwarding(*batches: Any, name: str | None = "default", stalled: bool = False) -> ScriptedCall:
    metadata = [(b"buildkit.ssh.id", name.encode())] if name is not None else []
    messages = [[BytesMessage(data=data)] if isinstance(data, bytes) else data for data in batches]
    return ScriptedCall(*messages, metadata=metadata, stalled=stalled)


def said(call: ScriptedCall) -> bytes:
    assert all(0 < len(message.data) <= 32 * 1024 for message in call.sent)
    return b"".join(message.data for message in call.sent)


async def check(service: Ssh, name: str) -> None:
    await serve(service, "CheckAgent", ScriptedCall([CheckAgentRequest(id=name)]))


async def test_keys_and_signatures(tmp_path: Path) -> None:
    async with agent(tmp_path) as asked:
        call = forwarding(framed(LIST)[:3], framed(LIST)[3:] + framed(SIGN), b"")
        await serve(Ssh({"default": AgentSocket(tmp_path / "agent")}), "ForwardAgent", call)
        assert asked == [LIST, SIGN]
    assert said(call) == framed(KEYS) + framed(b"\x0e" + SIGN)


async def test_nothing_else_reaches_the_agent(tmp_path: Path) -> None:
    """AU-19: it is answered all the same, in its turn."""
    async with agent(tmp_path) as asked:
        call = forwarding(framed(EXTENSION) + framed(SIGN) + framed(REMOVE_ALL) + framed(SIGN))
        await serve(Ssh({"default": AgentSocket(tmp_path / "agent")}), "ForwardAgent", call)
        assert asked == [SIGN, SIGN]
    assert said(call) == framed(b"\x1c") + framed(b"\x0e" + SIGN) + framed(b"\x05") + framed(b"\x0e" + SIGN)


@pytest.mark.parametrize("data", [b"\0\0\0\0", b"\xff\xff\xff\xff", framed(SIGN) + b"\x7f\0\0\0"])
async def test_a_step_that_breaks_the_protocol(tmp_path: Path, data: bytes) -> None:
    async with agent(tmp_path):
        with pytest.raises(RpcError) as caught:
            await serve(Ssh({"default": AgentSocket(tmp_path / "agent")}), "ForwardAgent", forwarding(data))
    assert caught.value.code == Status.INVALID_ARGUMENT


@pytest.mark.parametrize("name", [None, "", "default"])
@pytest.mark.parametrize("known", ["", "default"])
async def test_an_empty_id_is_the_default(tmp_path: Path, known: str, name: str | None) -> None:
    async with agent(tmp_path):
        service = Ssh({known: AgentSocket(tmp_path / "agent")})
        await check(service, name or "")
        await serve(service, "ForwardAgent", forwarding(framed(LIST), name=name))


@pytest.mark.parametrize("name", ["", "default", "Git", "git "])
async def test_other_ids_are_refused(tmp_path: Path, name: str) -> None:
    """AU-18."""
    async with agent(tmp_path):
        service = Ssh({"git": AgentSocket(tmp_path / "agent")})
        for call in (check(service, name), serve(service, "ForwardAgent", forwarding(framed(LIST), name=name))):
            with pytest.raises(RpcError) as caught:
                await call
            assert caught.value.code == Status.NOT_FOUND


async def test_an_agent_that_is_not_there(tmp_path: Path) -> None:
    """The caller learns of it before the step runs."""
    for path in (tmp_path / "none", tmp_path, tmp_path / ("x" * 200)):
        with pytest.raises(InputError, match="does not answer"):
            await check(Ssh({"default": AgentSocket(path)}), "")


@pytest.mark.parametrize("behaviour", ["ends at once", "ends when asked", "speaks unasked", "answers nonsense"])
async def test_an_agent_that_goes_ends_the_call(tmp_path: Path, behaviour: str) -> None:
    """AU-21: a step that only waits for the answer would wait for ever otherwise."""

    async def converse(reader: StreamReader, writer: StreamWriter) -> None:
        if behaviour == "speaks unasked":
            writer.write(b"hello")
        elif behaviour != "ends at once":
            await reader.read(100)
        if behaviour == "answers nonsense":
            writer.write(b"\0\0\0\0")
        if behaviour in {"speaks unasked", "answers nonsense"}:
            await reader.read()

    async with listening(tmp_path / "agent", converse):
        service = Ssh({"default": AgentSocket(tmp_path / "agent")})
        asks = () if behaviour in {"ends at once", "speaks unasked"} else (framed(LIST),)
        call = forwarding(*asks, stalled=True)
        await serve(service, "ForwardAgent", call)
    assert said(call) == b""


async def test_many_at_once(tmp_path: Path) -> None:
    """AU-22: each has a connection of its own, even if the agent takes few at a time."""
    async with agent(tmp_path) as asked:
        service = Ssh({"default": AgentSocket(tmp_path / "agent")})
        calls = [forwarding(framed(LIST)) for _ in range(200)]
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(serve, service, "ForwardAgent", call)
    assert len(asked) == 200
    assert {said(call) for call in calls} == {framed(KEYS)}
