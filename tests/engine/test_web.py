"""Requests to servers of the outside world, which is this machine here."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from buildkit_session.engine.web import AiohttpWeb

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def answering(answer: bytes, received: list[bytes]) -> AsyncIterator[str]:
    """A server that sends the same bytes to everybody; yields its URL."""

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        received.append(await reader.read(10_000))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_request_and_its_answer() -> None:
    received: list[bytes] = []
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", received) as url:
        reply = await AiohttpWeb().send("POST", f"{url}/a%2fb?c=%20d", {"X-Y": "z"}, b"body", max_body=2)
    assert (reply.status, reply.body, reply.location) == (200, b"hi", "")
    assert received[0].startswith(b"POST /a%2fb?c=%20d HTTP/1.1\r\n")
    assert b"\r\nX-Y: z\r\n" in received[0]


async def test_a_redirect_is_not_followed() -> None:
    received: list[bytes] = []
    answer = b"HTTP/1.1 307 Moved\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"
    async with answering(answer, received) as url:
        reply = await AiohttpWeb().send("GET", url, {}, None, max_body=10)
    assert (reply.status, reply.location) == (307, "/other")
    assert len(received) == 1


async def test_an_endless_answer_is_cut() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000, []) as url:
        reply = await AiohttpWeb().send("GET", url, {}, None, max_body=1000)
    assert len(reply.body) == 1001


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1"])
async def test_a_server_that_breaks_off(answer: bytes) -> None:
    async with answering(answer, []) as url:
        with pytest.raises(ConnectionError, match=r"cannot talk to 127\.0\.0\.1"):
            await AiohttpWeb().send("POST", url, {"Authorization": "hunter2"}, b"hunter2", max_body=10)


async def test_a_server_that_is_not_there() -> None:
    async with answering(b"", []) as url:
        pass
    with pytest.raises(ConnectionError, match="cannot talk to") as caught:
        await AiohttpWeb().send("GET", f"{url}/?hunter2", {}, None, max_body=10)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["2852039166", "0xa9fea9fe", "169.16689662"])
async def test_names_that_lead_to_a_link_local_address(name: str) -> None:
    """The system's resolver takes them for 169.254.169.254; aiohttp itself takes none that has digits alone."""
    with pytest.raises(ConnectionError, match=r"it has link-local addresses only|InvalidUrlClientError"):
        await AiohttpWeb().send("GET", f"http://{name}/latest/meta-data", {}, None, max_body=10)


async def test_a_silent_server_can_be_left() -> None:
    async def handle(_reader: StreamReader, writer: StreamWriter) -> None:
        await left.wait()
        writer.close()

    left = anyio.Event()
    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with anyio.move_on_after(0.1) as scope:
            await AiohttpWeb().send("GET", url, {}, None, max_body=10)
        left.set()
    assert scope.cancelled_caught


async def test_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """For others, not for this machine."""
    received: list[bytes] = []
    async with answering(b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", received) as url:
        monkeypatch.setenv("http_proxy", url.removeprefix("http://"))
        monkeypatch.setenv("no_proxy", "direct.invalid")
        await AiohttpWeb().send("GET", "http://auth.invalid/token", {}, None, max_body=10)
        assert received.pop().startswith(b"GET http://auth.invalid/token HTTP/1.1\r\n")
        await AiohttpWeb().send("GET", f"{url}/token", {}, None, max_body=10)
        assert received.pop().startswith(b"GET /token HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            await AiohttpWeb().send("GET", "http://direct.invalid/token", {}, None, max_body=10)


async def test_passwords_of_a_netrc_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon chooses where requests go."""
    (tmp_path / "netrc").write_text("default login alice password hunter2\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    received: list[bytes] = []
    async with answering(b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", received) as url:
        await AiohttpWeb().send("GET", url, {}, None, max_body=10)
    assert b"authorization" not in received[0].lower()
