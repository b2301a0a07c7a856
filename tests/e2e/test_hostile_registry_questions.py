"""A daemon that asks for credentials and tokens as no daemon should: what a build answers, and what it never shows."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio
import pytest
from betterproto2 import Message
from fake_buildkit import fake_buildkit, silent
from leftovers import nothing_left

import buildkit_session as bk
from buildkit_session.errors import RpcError
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.filesync.v1 import (
    CredentialsRequest,
    CredentialsResponse,
    FetchTokenRequest,
    FetchTokenResponse,
    GetTokenAuthorityRequest,
    GetTokenAuthorityResponse,
    VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
)
from buildkit_session.services.token_fetch import MAX_AT_ONCE, MAX_REPLY

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from buildkit_session.grpc.channel import Channel
    from buildkit_session.registry_auth import CredentialsLike

pytestmark = pytest.mark.anyio

_T = TypeVar("_T", bound=Message)

SALT = b"\1" * 32
PAYLOAD = b"\2" * 32
ANONYMOUS_KEY = "4a134baf59c70e1a8295638371dbf9f4f365b8a78303f5e87be5c1eaad37588c"  # for this salt, as buildx has it
OWN = "localhost:5000"  # whose password may go over plain HTTP
PASSWORDS: CredentialsLike = {OWN: ("alice", "hunter2"), "docker.io": ("alice", "hunter2")}


@pytest.fixture(autouse=True)
def nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    assert "hunter2" not in caplog.text
    assert "s3cret-token" not in caplog.text


class Daemon:
    """Asks what it likes of one build."""

    def __init__(self, session: Channel) -> None:
        self._session = session

    async def credentials(self, host: str) -> tuple[str, str]:
        answer = await self._ask("Credentials", CredentialsRequest(host), CredentialsResponse)
        return answer.username, answer.secret

    async def token(self, realm: str, host: str = OWN) -> FetchTokenResponse:
        request = FetchTokenRequest("x", host, realm, "reg", ["a"])
        return await self._ask("FetchToken", request, FetchTokenResponse)

    async def key(self, host: str, salt: bytes = SALT) -> bytes:
        request = GetTokenAuthorityRequest(host, salt)
        return (await self._ask("GetTokenAuthority", request, GetTokenAuthorityResponse)).public_key

    async def signed(self, host: str, payload: bytes, salt: bytes = SALT) -> bytes:
        request = VerifyTokenAuthorityRequest(host, payload, salt)
        return (await self._ask("VerifyTokenAuthority", request, VerifyTokenAuthorityResponse)).signed

    async def _ask(self, method: str, request: Message, response: type[_T]) -> _T:
        return await self._session.unary(f"/moby.filesync.v1.Auth/{method}", request, response)


@asynccontextmanager
async def asking(tmp_path: Path, credentials: CredentialsLike | None) -> AsyncIterator[Daemon]:
    context = tmp_path / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text("FROM scratch\n")
    scripts = {"Control/Solve": silent, "Control/Status": silent}
    async with (
        nothing_left(tmp_path),
        fake_buildkit(scripts) as buildkit,
        bk.connect(buildkit.address) as client,
        client.start(context, credentials=credentials),
    ):
        yield Daemon(await buildkit.session())


@asynccontextmanager
async def web(answer: Callable[[str], bytes], asked: list[str]) -> AsyncIterator[str]:
    """A server of the outside world; ``asked`` gets what it was asked, ``answer`` is called with it."""

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.decode())
        writer.write(answer(head.decode()))
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


TOKEN = ok(b'{"access_token": "s3cret-token", "token": "s3cret-token", "expires_in": 300}')


OTHERS = (
    *("localhost", "localhost:443", "LOCALHOST:5000", "a.localhost:5000", "localhost:5000/", "localhost:5000\0"),
    *("docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io:443", "", "x" * 5000),
)


async def test_other_hosts(tmp_path: Path) -> None:
    """They are nobody's: no credentials, the key of everybody, and a token for everybody."""
    asked: list[str] = []
    async with web(lambda _: TOKEN, asked) as url, asking(tmp_path, PASSWORDS) as daemon:
        for host in OTHERS:
            assert await daemon.credentials(host) == ("", ""), host
            assert (await daemon.key(host)).hex() == ANONYMOUS_KEY, host
            await daemon.token(f"{url}/token", host)
    assert [line.partition(" ")[0] for line in asked] == ["GET"] * len(OTHERS)
    assert not [head for head in asked if "authorization" in head.lower()]


REALMS = (
    *("http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:a9fe:a9fe]/"),
    *("file:///etc/passwd", "unix:///var/run/docker.sock", "gopher://127.0.0.1/", "//127.0.0.1/", "", "\0"),
    *("http://hunter2@127.0.0.1/", "http://127.0.0.1\r\nX: y/"),
)


async def test_token_servers_where_none_should_be(tmp_path: Path) -> None:
    async with asking(tmp_path, PASSWORDS) as daemon:
        for host in (OWN, "elsewhere.example"):
            for realm in REALMS:
                with pytest.raises(RpcError, match="URL of the token server") as caught:
                    await daemon.token(realm, host)
                assert "hunter2" not in str(caught.value)
        with pytest.raises(RpcError, match="over https only"):
            await daemon.token("http://127.0.0.1/", "registry-1.docker.io")


async def test_a_token_server_that_sends_the_password_elsewhere(tmp_path: Path) -> None:
    asked: list[str] = []
    taken: list[str] = []
    async with (
        web(lambda _: TOKEN, taken) as other,
        web(lambda _: f"HTTP/1.1 307 Go\r\nLocation: {other}/\r\nContent-Length: 0\r\n\r\n".encode(), asked) as url,
        asking(tmp_path, PASSWORDS) as daemon,
    ):
        with pytest.raises(RpcError, match="redirects, which is not followed with a password"):
            await daemon.token(url)
        assert (len(asked), taken) == (1, [])


ODD_ANSWERS = (
    (b'{"access_token": "' + b"x" * MAX_REPLY + b'"}', "more than"),
    (b"[" * 200_000, "did not include a token"),
    (b'{"access_token": "a\\r\\nb"}', "did not include a token"),
    (b'{"errors": "hunter2"}', "did not include a token"),
)


async def test_token_servers_that_answer_with_something_else(tmp_path: Path) -> None:
    body = b""
    async with web(lambda _: ok(body), []) as url, asking(tmp_path, PASSWORDS) as daemon:
        for answer, message in ODD_ANSWERS:
            body = answer
            with pytest.raises(RpcError, match=message) as caught:
                await daemon.token(url)
            assert "hunter2" not in str(caught.value)


async def test_what_is_signed(tmp_path: Path) -> None:
    """A payload of 32 bytes, and nothing else; the keys of two builds of one program are two."""
    async with asking(tmp_path, PASSWORDS) as daemon:
        key = await daemon.key(OWN)
        assert key.hex() != ANONYMOUS_KEY
        assert len(await daemon.signed(OWN, PAYLOAD)) == 96
        for payload in (b"", PAYLOAD[1:], PAYLOAD * 2, b"\0" * 1_000_000):
            with pytest.raises(RpcError, match="32 bytes") as caught:
                await daemon.signed(OWN, payload)
            assert caught.value.code == Status.INVALID_ARGUMENT
        for salt in (b"", b"\1" * 1_000_000):
            with pytest.raises(RpcError, match="salt"):
                await daemon.key(OWN, salt)
            with pytest.raises(RpcError, match="salt"):
                await daemon.signed(OWN, PAYLOAD, salt)
    async with asking(tmp_path, PASSWORDS) as daemon:
        assert await daemon.key(OWN) != key


async def test_hundreds_of_calls_at_once(tmp_path: Path) -> None:
    """They share the caller's answer, and are fetched few at once; the session answers in between."""
    running = most = calls = 0

    async def fetch(_host: str) -> bk.Credentials:
        nonlocal calls
        calls += 1
        await anyio.sleep(0.2)
        return bk.Credentials("alice", "hunter2")

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.005)
        writer.write(TOKEN)
        running -= 1
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server, asking(tmp_path, fetch) as daemon:
        realm = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(daemon.token, realm)
            for _ in range(200):
                tasks.start_soon(daemon.credentials, OWN)
            for _ in range(100):
                tasks.start_soon(daemon.key, OWN)
    assert 1 <= most <= MAX_AT_ONCE
    assert calls < 100


@pytest.mark.parametrize("kind", ["function", "source"])
async def test_what_fails_to_find_credentials(tmp_path: Path, kind: str) -> None:
    """The daemon learns of the kind of failure alone, and the caller of the type: a text may hold a password."""
    failure = RuntimeError("hunter2")

    class Source:
        async def find(self, _host: str, /) -> None:
            raise failure

    source = Source()
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")

    async def solve(_call: object) -> None:
        with pytest.raises(RpcError, match=r"the client failed: CallbackError$"):
            await Daemon(await buildkit.session()).credentials(OWN)
        raise RpcError(Status.UNKNOWN, "no credentials")

    async with (
        fake_buildkit({"Control/Solve": solve, "Control/Status": silent}) as buildkit,
        bk.connect(buildkit.address, credentials=source.find if kind == "function" else source) as client,
    ):
        with pytest.raises(bk.CallbackError, match=r"RuntimeError( at \w+\.py:\d+)?$") as caught:
            await client.build(context)
    assert isinstance(caught.value.__cause__, bk.BuildError)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


async def test_a_function_that_hangs_ends_with_its_build(tmp_path: Path) -> None:
    begun, ended = anyio.Event(), anyio.Event()

    async def fetch(_host: str) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async def ask(daemon: Daemon) -> None:
        with pytest.raises(bk.SessionError):
            await daemon.credentials(OWN)

    async with anyio.create_task_group() as tasks, asking(tmp_path, fetch) as daemon:
        tasks.start_soon(ask, daemon)
        await begun.wait()
    assert ended.is_set()


async def test_a_helper_that_hangs(tmp_path: Path) -> None:
    """It is killed once the daemon asks no longer."""
    program = tmp_path / "docker-credential-stuck"
    program.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 300\n")
    program.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "stuck"}))
    login = bk.DockerConfig({"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"})
    async with asking(tmp_path, login) as daemon:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(daemon.credentials, OWN)
            while not (tmp_path / "pid").exists():  # noqa: ASYNC110 - a program says nothing
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        pid = int((tmp_path / "pid").read_text())
        with anyio.fail_after(60):
            while os.path.exists(f"/proc/{pid}"):  # noqa: ASYNC110, ASYNC240 - as above
                await anyio.sleep(0.01)
