"""Plain functions of callers, which a daemon has called again and again and gives up each time."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread
from calls import ScriptedCall, serve

from buildkit_session.errors import RpcError
from buildkit_session.messages.moby.buildkit.secrets.v1 import GetSecretRequest
from buildkit_session.messages.moby.filesync.v1 import BytesMessage, CredentialsRequest
from buildkit_session.request import secret
from buildkit_session.services.agent_guard import AgentGuard
from buildkit_session.services.agent_messages import SIGN, Identity
from buildkit_session.services.agent_protocol import framed
from buildkit_session.services.auth import Auth
from buildkit_session.services.callbacks import MAX_THREADS
from buildkit_session.services.called_credentials import CalledCredentials
from buildkit_session.services.caller_threads import CallerThreads
from buildkit_session.services.key_ring import KeyRing
from buildkit_session.services.secrets import Secrets
from buildkit_session.services.ssh import Ssh
from buildkit_session.services.ssh_wire import string

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from buildkit_session.services import Service

pytestmark = pytest.mark.anyio

MANY = 60
BLOB = string(b"ssh-ed25519") + string(b"k" * 32)


class Key:
    identity = Identity(BLOB, b"key")

    def sign(self, _data: bytes, _flags: int) -> bytes:
        return b"signature"


def confirming(function: Callable[..., Any]) -> Service:
    return Ssh({"": AgentGuard(KeyRing([Key()]), "default", chosen=None, confirm=function)})


def signing(_number: int) -> Any:
    return BytesMessage(framed(SIGN + string(BLOB) + string(b"data") + bytes(4)))


KINDS: Mapping[str, tuple[Callable[[Callable[..., Any]], Service], str, Callable[[int], Any]]] = {
    "secret": (
        lambda function: Secrets({"a": secret.call(function)}),
        "GetSecret",
        lambda _number: GetSecretRequest(id="a"),
    ),
    "credentials": (
        lambda function: Auth(CalledCredentials(function)),
        "Credentials",
        lambda number: CredentialsRequest(host=f"h{number}.example"),
    ),
    "signature": (confirming, "ForwardAgent", signing),
}


@pytest.fixture
def end() -> Iterator[threading.Event]:
    """What functions wait for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_that_are_given_up_leave_few_threads(kind: str, end: threading.Event) -> None:
    """Each function goes on by itself; files are still read and, when they end, others are called."""
    make, method, request = KINDS[kind]
    begun = 0

    def hang(*_arguments: object) -> None:
        nonlocal begun
        begun += 1
        end.wait(60)

    service = make(hang)

    async def call(number: int) -> None:
        with suppress(RpcError):  # a secret that is not there, in the end
            await serve(service, method, ScriptedCall([request(number)]))

    for number in range(MANY):
        async with anyio.create_task_group() as calls:
            calls.start_soon(call, number)
            with anyio.move_on_after(1 if number < MAX_THREADS else 0.001):
                while begun <= number:  # noqa: ASYNC110 - in a thread
                    await anyio.sleep(0.001)
            calls.cancel_scope.cancel()
    assert begun == MAX_THREADS
    with anyio.fail_after(10):
        assert await to_thread.run_sync(lambda: "read") == "read"
    end.set()
    async with anyio.create_task_group() as calls:
        calls.start_soon(call, MANY)
        with anyio.fail_after(10):
            while begun == MAX_THREADS:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.001)
        calls.cancel_scope.cancel()


async def test_a_call_that_is_given_up_before_its_function_begins() -> None:
    """Its thread is free again, whenever that was."""
    threads = CallerThreads(1)
    for turns in range(20):
        async with anyio.create_task_group() as calls:
            calls.start_soon(threads.run, lambda: None)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            calls.cancel_scope.cancel()
    with anyio.fail_after(10):
        assert await threads.run(lambda: "called") == "called"
