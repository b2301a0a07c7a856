"""Secrets by exact id, whole or not at all, and never shown."""

from __future__ import annotations

import logging
import traceback
from typing import cast

import anyio
import pytest
from calls import ScriptedCall, serve

from buildkit_session.errors import CallbackError, InputError, RpcError, TransferError
from buildkit_session.grpc.metadata import Metadata
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.buildkit.secrets.v1 import GetSecretRequest, GetSecretResponse
from buildkit_session.services.secrets import MAX_SECRET, Secrets

pytestmark = pytest.mark.anyio


class Fixed:
    def __init__(self, value: bytes | None) -> None:
        self.value = value

    async def read(self) -> bytes | None:
        return self.value


class Broken:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def read(self) -> bytes | None:
        raise self.error


class Hanging:
    def __init__(self) -> None:
        self.cancelled = False

    async def read(self) -> bytes | None:
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled = True
        return b""


async def ask(service: Secrets, name: str) -> bytes:
    (answer,) = await serve(service, "GetSecret", ScriptedCall([GetSecretRequest(id=name)]))
    return cast("bytes", answer.data)


@pytest.mark.parametrize("value", [b"", b"\0\n\xff", b"x" * MAX_SECRET])
async def test_a_secret_arrives_as_it_is(value: bytes) -> None:
    """AU-03: the empty one too, and the largest."""
    assert await ask(Secrets({"a": Fixed(value)}), "a") == value


async def test_an_empty_secret_is_written_out() -> None:
    """Absent and empty are the same to most, but not to BuildKit 0.8, which a test of real builds shows."""
    (route,) = Secrets({}).routes()
    assert route.select(Metadata()).response.encode(GetSecretResponse()) == b"\x0a\x00"
    assert route.select(Metadata()).response.encode(GetSecretResponse(data=b"1")) == b"\x0a\x011"


@pytest.mark.parametrize("name", ["", "A", "npm2", "npm ", "HTTP_AUTH_TOKEN_npm", "GIT_AUTH_TOKEN", "HOME"])
async def test_other_ids_are_not_found(name: str) -> None:
    """AU-01: whatever looks alike, and what the daemon asks for by itself."""
    with pytest.raises(RpcError) as caught:
        await ask(Secrets({"npm": Fixed(b"hunter2")}), name)
    assert caught.value.code == Status.NOT_FOUND


async def test_a_source_without_a_secret_is_not_found() -> None:
    with pytest.raises(RpcError) as caught:
        await ask(Secrets({"a": Fixed(None)}), "a")
    assert caught.value.code == Status.NOT_FOUND


async def test_a_source_is_read_each_time() -> None:
    source = Fixed(b"old")
    service = Secrets({"a": source})
    assert await ask(service, "a") == b"old"
    source.value = b"new"
    assert await ask(service, "a") == b"new"


async def test_too_large_a_secret() -> None:
    """AU-02: found when it is asked for, as files grow."""
    with pytest.raises(TransferError, match="512001 bytes, more than the 512000"):
        await ask(Secrets({"a": Fixed(b"x" * (MAX_SECRET + 1))}), "a")


@pytest.mark.parametrize("error", [RuntimeError("vault says: hunter2"), RpcError(Status.NOT_FOUND, "hunter2")])
async def test_a_broken_source(error: Exception) -> None:
    """AU-06: an error that the daemon is told the type of, whatever it claims to be; the caller, of what it raised."""
    with pytest.raises(CallbackError, match=f"'a': its source raised {type(error).__name__}") as caught:
        await ask(Secrets({"a": Broken(error)}), "a")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_a_source_that_explains_itself() -> None:
    """The server keeps the text from the daemon, and the build shows it to the caller."""
    with pytest.raises(InputError, match=r"^secret 'a': no /home/me/token$"):
        await ask(Secrets({"a": Broken(InputError("no /home/me/token"))}), "a")


async def test_a_source_of_text() -> None:
    with pytest.raises(InputError, match="must return bytes or None, not a str"):
        await ask(Secrets({"a": Fixed(cast("bytes", "hunter2"))}), "a")


async def test_a_stuck_source_is_cancelled_with_its_call() -> None:
    """AU-05."""
    source = Hanging()
    with anyio.move_on_after(0.05) as scope:
        await ask(Secrets({"a": source}), "a")
    assert scope.cancelled_caught
    assert source.cancelled


async def test_one_secret_does_not_wait_for_another() -> None:
    service = Secrets({"stuck": Hanging(), "b": Fixed(b"2")})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, service, "stuck")
        assert await ask(service, "b") == b"2"
        tasks.cancel_scope.cancel()


async def test_values_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """AU-04."""
    caplog.set_level(logging.DEBUG)
    service = Secrets({"a": Fixed(b"hunter2"), "big": Fixed(b"hunter2" * MAX_SECRET)})
    await ask(service, "a")
    with pytest.raises(TransferError) as caught:
        await ask(service, "big")
    assert "7 bytes" in caplog.text
    for shown in (repr(service), caplog.text, "".join(traceback.format_exception(caught.value))):
        assert "hunter2" not in shown
