"""Forwarding ssh agents: scripted ones here, a real one in real builds."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from agents import listening
from calls import RESET, ScriptedCall, serve

from buildkit_session.errors import InputError, RpcError, StreamReset
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.messages.moby.sshforward.v1 import CheckAgentRequest
from buildkit_session.services.agent_guard import AgentGuard
from buildkit_session.services.agent_messages import LIST, Identity, fingerprint, identities_answer, signature_answer
from buildkit_session.services.agent_protocol import framed
from buildkit_session.services.agent_socket import AgentSocket
from buildkit_session.services.chosen_keys import ChosenKeys
from buildkit_session.services.raw_socket import RawSocket
from buildkit_session.services.ssh import Ssh
from buildkit_session.services.ssh_wire import string

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator
    from pathlib import Path

    from buildkit_session.services.sign_request import SignRequest

pytestmark = pytest.mark.anyio

REMOVE_ALL, EXTENSION = b"\x13", b"\x1bsession-bind@openssh.com"
IDENTITIES = [Identity(string(b"ssh-ed25519") + bytes([number]) * 100, b"key %d" % number) for number in range(200)]
KEYS = identities_answer(IDENTITIES)


def signing(identity: Identity, data: bytes = b"data") -> bytes:
    return b"\x0d" + string(identity.blob) + string(data) + bytes(4)


def signed(request: bytes) -> bytes:
    return signature_answer(request)


SIGN = signing(IDENTITIES[0])


@asynccontextmanager
async def agent(tmp_path: Path) -> AsyncIterator[list[bytes]]:
    """Lists many keys, and signs whatever it is asked with a copy; yields the list of what it was asked."""
    asked: list[bytes] = []

    async def converse(reader: StreamReader, writer: StreamWriter) -> None:
        while size := int.from_bytes(await reader.read(4)):
            asked.append(await reader.readexactly(size))
            writer.write(framed(KEYS if asked[-1] == LIST else signed(asked[-1])))
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


def guarding(tmp_path: Path, *chosen: Identity, confirm: Any = None) -> Ssh:
    keys = ChosenKeys(frozenset(fingerprint(one.blob) for one in chosen))
    agent = AgentSocket(tmp_path / "agent")
    return Ssh({"": AgentGuard(agent, "default", chosen=keys if chosen else None, confirm=confirm)})


async def check(service: Ssh, name: str) -> None:
    await serve(service, "CheckAgent", ScriptedCall([CheckAgentRequest(id=name)]))


async def test_keys_and_signatures(tmp_path: Path) -> None:
    async with agent(tmp_path) as asked:
        call = forwarding(framed(LIST)[:3], framed(LIST)[3:] + framed(SIGN), b"")
        await serve(Ssh({"default": AgentSocket(tmp_path / "agent")}), "ForwardAgent", call)
        assert asked == [LIST, SIGN]
    assert said(call) == framed(KEYS) + framed(signed(SIGN))


async def test_nothing_else_reaches_the_agent(tmp_path: Path) -> None:
    """AU-19: it is answered all the same, in its turn."""
    async with agent(tmp_path) as asked:
        call = forwarding(framed(EXTENSION) + framed(SIGN) + framed(REMOVE_ALL) + framed(SIGN))
        await serve(Ssh({"default": AgentSocket(tmp_path / "agent")}), "ForwardAgent", call)
        assert asked == [SIGN, SIGN]
    assert said(call) == framed(b"\x1c") + framed(signed(SIGN)) + framed(b"\x05") + framed(signed(SIGN))


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


ANSWERS = {
    "answers nonsense": b"\0\0\0\0",
    "answers something else": framed(b"\x06"),
    "answers a signature": framed(b"\x0e" + string(b"signature")),
    "lists without end": framed(b"\x0c\xff\xff\xff\xff" + KEYS[5:]),
    "goes amid its answer": framed(KEYS)[:-1],
    "announces too much": b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize("guarded", [False, True], ids=["", "guarded"])
@pytest.mark.parametrize("behaviour", ["ends at once", "ends when asked", "speaks unasked", *ANSWERS])
async def test_an_agent_that_goes_ends_the_call(tmp_path: Path, behaviour: str, guarded: bool) -> None:
    """AU-21: a step that only waits for the answer would wait for ever otherwise. So does one that talks nonsense."""

    async def converse(reader: StreamReader, writer: StreamWriter) -> None:
        if behaviour == "speaks unasked":
            writer.write(b"hello")
        elif behaviour != "ends at once":
            await reader.read(100)
        if answer := ANSWERS.get(behaviour):
            writer.write(answer)
            await writer.drain()
        if behaviour == "speaks unasked" or (answer and behaviour != "goes amid its answer"):
            await reader.read()

    async with listening(tmp_path / "agent", converse):
        service = guarding(tmp_path, IDENTITIES[0]) if guarded else Ssh({"": AgentSocket(tmp_path / "agent")})
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


async def test_only_chosen_keys_are_there(tmp_path: Path) -> None:
    """A step that knows another key of the agent, and names it, gets no signature of it."""
    first, second, third = IDENTITIES[:3]
    asks = b"".join(map(framed, (LIST, signing(first), signing(second), signing(third))))
    async with agent(tmp_path) as asked:
        keys = ChosenKeys(frozenset([fingerprint(first.blob)]), frozenset([b"key 2"]))
        guard = AgentGuard(AgentSocket(tmp_path / "agent"), "default", chosen=keys, confirm=None)
        call = forwarding(asks)
        await serve(Ssh({"": guard}), "ForwardAgent", call)
    answers = (identities_answer([first, third]), signed(signing(first)), b"\x05", signed(signing(third)))
    assert said(call) == b"".join(map(framed, answers))
    assert [request for request in asked if request != LIST] == [signing(first), signing(third)]


async def test_a_chosen_key_that_the_agent_has_not_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A step would see no keys and nothing would say why."""
    async with agent(tmp_path):
        keys = ChosenKeys(comments=frozenset([b"nobody"]))
        guard = AgentGuard(AgentSocket(tmp_path / "agent"), "default", chosen=keys, confirm=None)
        call = forwarding(framed(LIST) + framed(LIST))
        await serve(Ssh({"": guard}), "ForwardAgent", call)
    assert said(call) == framed(identities_answer([])) * 2
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "only= of ssh 'default' names 'nobody', and the agent has no such key: see ssh-add -l"
    ]


@pytest.mark.parametrize("verdict", [True, False, None, 1, "yes", RuntimeError("words"), "cancelled"])
async def test_who_is_asked_may_refuse(tmp_path: Path, verdict: object, caplog: pytest.LogCaptureFixture) -> None:
    """By anything but True."""
    requests = []

    async def confirm(request: SignRequest) -> object:
        requests.append(request)
        await anyio.lowlevel.checkpoint()
        failure = anyio.get_cancelled_exc_class()() if verdict == "cancelled" else verdict
        if isinstance(failure, BaseException):
            raise failure
        return verdict

    async with agent(tmp_path) as asked:
        call = forwarding(framed(SIGN) + framed(LIST))
        await serve(guarding(tmp_path, confirm=confirm), "ForwardAgent", call)
    assert said(call) == framed(signed(SIGN) if verdict is True else b"\x05") + framed(KEYS)
    assert asked.count(SIGN) == (verdict is True)
    (request,) = requests
    assert (request.id, request.comment, request.key_type) == ("default", "key 0", "ssh-ed25519")
    assert (request.fingerprint, request.kind) == (fingerprint(IDENTITIES[0].blob), "data")
    assert "words" not in caplog.text
    failed = isinstance(verdict, Exception)  # its line is told, so that it can be found
    assert ("raised RuntimeError at test_ssh_forwarding.py:" in caplog.text) == failed


async def test_who_thinks_holds_nobody_else_up(tmp_path: Path) -> None:
    """And is left alone when the step has gone."""
    ended = []
    thinking = anyio.Event()

    async def confirm(request: SignRequest) -> bool:
        thinking.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(request.comment)
        return True

    service = guarding(tmp_path, confirm=confirm)
    async with agent(tmp_path), anyio.create_task_group() as tasks:
        tasks.start_soon(serve, service, "ForwardAgent", forwarding(framed(SIGN)))
        await thinking.wait()
        other = forwarding(framed(LIST))
        await serve(service, "ForwardAgent", other)
        assert said(other) == framed(KEYS)
        assert not ended
        tasks.cancel_scope.cancel()
    assert ended == ["key 0"]


async def test_a_plain_function_decides_in_a_thread(tmp_path: Path) -> None:
    async with agent(tmp_path):
        call = forwarding(framed(SIGN))
        await serve(guarding(tmp_path, confirm=lambda request: request.comment == "key 0"), "ForwardAgent", call)
    assert said(call) == framed(signed(SIGN))


@asynccontextmanager
async def upper(tmp_path: Path) -> AsyncIterator[Ssh]:
    """A server behind a raw socket that says it all in capitals, once the other side has said its last."""

    async def converse(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        await writer.drain()

    async with listening(tmp_path / "raw", converse):
        yield Ssh({"": RawSocket(tmp_path / "raw")})


async def test_raw_bytes_both_ways(tmp_path: Path) -> None:
    """AU-20: a step that has ended its half still gets its answer. Nothing of it is taken for an agent's message."""
    data = b"\0\0\0\0" + b"hello" * 200_000
    async with upper(tmp_path) as service:
        await check(service, "")
        calls = [forwarding(data[:9], data[9:]) for _ in range(20)]
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(serve, service, "ForwardAgent", call)
    assert {said(call) for call in calls} == {data.upper()}


async def test_a_raw_server_that_has_said_its_last_ends_the_call(tmp_path: Path) -> None:
    """Also while the step is silent, or has more to say than the server reads."""

    async def converse(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(b"bye")
        await writer.drain()

    async with listening(tmp_path / "raw", converse):
        service = Ssh({"": RawSocket(tmp_path / "raw")})
        silent, talkative = forwarding(stalled=True), forwarding(b"x" * 1_000_000, stalled=True)
        for call in (silent, talkative):
            await serve(service, "ForwardAgent", call)
    assert said(silent) == b"bye"
    assert b"bye".startswith(said(talkative))  # the kernel drops it where the server leaves something unread


async def test_a_step_that_goes_ends_a_raw_connection(tmp_path: Path) -> None:
    async with upper(tmp_path) as service:
        with pytest.raises(StreamReset):
            await serve(service, "ForwardAgent", forwarding(b"x", RESET))


async def test_a_raw_socket_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, message in (("none", "not there"), ("file", "not a socket")):
        with pytest.raises(InputError, match=message):
            await check(Ssh({"": RawSocket(tmp_path / name)}), "")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(tmp_path / "dead"))
        with pytest.raises(InputError, match="dead does not answer"):
            await serve(Ssh({"": RawSocket(tmp_path / "dead")}), "ForwardAgent", forwarding(b"x"))
