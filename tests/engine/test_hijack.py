"""Taking over a connection: what an Engine may answer to an upgrade, and how it is read."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import pytest
from tricky_cases import tricky

from buildkit_session.engine.address import Endpoint, UnixSocket
from buildkit_session.engine.hijack import hijack
from buildkit_session.errors import EngineUnreachable, InputError, UpgradeRefused
from buildkit_session.http2.connection import Connection, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path

    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SETTINGS_ACK = b"\0\0\0\4\1\0\0\0\0"


class Peer:
    """Answers one connection with the given pieces, each sent on its own, and keeps what it was sent."""

    def __init__(self, pieces: Iterable[bytes], *, hang_up: bool) -> None:
        self.pieces = list(pieces)
        self.hang_up = hang_up
        self.request = b""
        self.after = b""
        self.acknowledged = asyncio.Event()
        self.done = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await self.talk(reader, writer)
        writer.close()
        self.done.set()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = await reader.readuntil(b"\r\n\r\n")
        for piece in self.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if not self.hang_up:
            while data := await reader.read(65536):
                self.after += data
                if SETTINGS_ACK in self.after:
                    self.acknowledged.set()


@asynccontextmanager
async def engine(tmp_path: Path, *pieces: bytes, hang_up: bool = False) -> AsyncIterator[tuple[Endpoint, Peer]]:
    peer = Peer(pieces, hang_up=hang_up)
    server = await asyncio.start_unix_server(peer, tmp_path / "e.sock")
    async with server:
        yield Endpoint(UnixSocket(str(tmp_path / "e.sock"))), peer
        if peer.request:
            await asyncio.wait_for(peer.done.wait(), 10)


def ignore(_stream: Stream) -> None:
    raise AssertionError("no stream was opened")


def connection() -> Connection:
    return Connection(ignore)


CUTS: dict[str, Callable[[bytes], list[bytes]]] = {
    "one segment": lambda data: [data],
    "byte by byte": lambda data: [data[i : i + 1] for i in range(len(data))],
    "head, then the rest": lambda data: [data[: len(SWITCHED)], data[len(SWITCHED) :]],
    "inside the preface": lambda data: [data[: len(SWITCHED) + 7], data[len(SWITCHED) + 7 :]],
}


@tricky(1, 3)
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_bytes_after_the_head_belong_to_http2(tmp_path: Path, cut: Callable[[bytes], list[bytes]]) -> None:
    """HJ-01, HJ-02: however the answer is cut, the SETTINGS in it are answered."""
    async with engine(tmp_path, *cut(SWITCHED + PREFACE)) as (endpoint, peer):
        taken = await hijack(endpoint, "/session", [("X-A", "1"), ("X-A", "2")], connection)
        await asyncio.wait_for(peer.acknowledged.wait(), 10)
        taken.close()
    assert peer.request.startswith(b"POST /session HTTP/1.1\r\n")
    assert peer.request.endswith(b"X-A: 1\r\nX-A: 2\r\n\r\n")
    assert b"Upgrade: h2c" in peer.request


@asynccontextmanager
async def asked(tmp_path: Path) -> AsyncIterator[socket.socket]:
    """An upgrade that was asked for; the Engine's socket, from which the head of the request was read."""
    loop = asyncio.get_running_loop()
    path = str(tmp_path / "e.sock")
    taken: list[Connection] = []

    async def take_over() -> None:
        taken.append(await hijack(Endpoint(UnixSocket(path)), "/session", [], connection))

    with socket.socket(socket.AF_UNIX) as listener, anyio.fail_after(10):
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_over)
            theirs, _ = await loop.sock_accept(listener)
            with theirs:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += await loop.sock_recv(theirs, 65536)
                assert head.endswith(b"\r\n\r\n"), "bytes of HTTP/2 came with the request"
                yield theirs
                tasks.cancel_scope.cancel()
    for connected in taken:
        connected.abort()
        await connected.closed.wait()


@tricky(1)
async def test_nothing_is_sent_before_the_101(tmp_path: Path) -> None:
    """The Engine drops what it had read by then."""
    async with asked(tmp_path) as theirs:
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


@tricky(2)
async def test_settings_wait_for_nothing_but_the_101(tmp_path: Path) -> None:
    """Also where the daemon's preface comes late: it counts the seconds until ours have arrived."""
    async with asked(tmp_path) as theirs:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(theirs, SWITCHED)
        frame = await loop.sock_recv(theirs, 5)
        kind, flags = frame[3:]
        assert (kind, flags) == (4, 0)


async def test_interim_answers_are_skipped(tmp_path: Path) -> None:
    """HJ-06."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with engine(tmp_path, interim + SWITCHED + PREFACE) as (endpoint, peer):
        taken = await hijack(endpoint, "/session", [], connection)
        await asyncio.wait_for(peer.acknowledged.wait(), 10)
        taken.close()


REFUSALS = {
    "json": (b'HTTP/1.1 400 Bad Request\r\nContent-Length: 21\r\n\r\n{"message":"no way!"}', "no way!", 400),
    "text": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope", "nope", 403),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "no reason given", 200),
    "wrong protocol": (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", "websocket", 101),
    "garbage": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "SSH-2.0", None),
    "endless head": (b"HTTP/1.1 101 Switching\r\nX: " + b"a" * 70_000, "HTTP", None),
    "bad status": (b"HTTP/1.1 1O1 Switching\r\n\r\n", "1O1", None),
}


@pytest.mark.parametrize(("answer", "text", "status"), REFUSALS.values(), ids=REFUSALS)
async def test_anything_else_is_refused(tmp_path: Path, answer: bytes, text: str, status: int | None) -> None:
    """HJ-03, HJ-04, HJ-07: a typed error that quotes the answer."""
    async with engine(tmp_path, answer) as (endpoint, _):
        with pytest.raises(UpgradeRefused, match=text) as caught:
            await hijack(endpoint, "/session", [], connection)
    assert caught.value.status == status
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 101 Sw", SWITCHED[:-2]])
async def test_hanging_up_early(tmp_path: Path, sent: bytes) -> None:
    """HJ-08."""
    async with engine(tmp_path, sent, hang_up=True) as (endpoint, _):
        with pytest.raises(UpgradeRefused, match="instead of switching protocols"):
            await hijack(endpoint, "/session", [], connection)


async def test_line_breaks_in_header_fields_are_refused(tmp_path: Path) -> None:
    """HJ-10: nothing is sent."""
    async with engine(tmp_path, SWITCHED) as (endpoint, peer):
        with pytest.raises(InputError, match="line break"):
            await hijack(endpoint, "/session", [("X-Name", "a\r\nX-Evil: 1")], connection)
        assert peer.request == b""


async def test_nobody_listens(tmp_path: Path) -> None:
    """HJ-11."""
    with pytest.raises(EngineUnreachable, match="none"):
        await hijack(Endpoint(UnixSocket(str(tmp_path / "none"))), "/session", [], connection)


async def test_real_daemon_refuses_a_path_without_upgrade(daemon: Daemon) -> None:
    endpoint = Endpoint(UnixSocket(daemon.address.removeprefix("unix://")))
    with pytest.raises(UpgradeRefused, match="did not switch protocols on /version") as caught:
        await hijack(endpoint, "/version", [], connection)
    assert caught.value.status in (404, 405)


@tricky(6)
async def test_real_daemon_refuses_an_id_in_use(daemon: Daemon) -> None:
    """HJ-09."""
    endpoint = Endpoint(UnixSocket(daemon.address.removeprefix("unix://")))
    fields = [("X-Docker-Expose-Session-Uuid", "bks-test-twice")]
    first = await hijack(endpoint, "/session", fields, connection)
    try:
        with pytest.raises(UpgradeRefused, match="bks-test-twice already exists"):
            await hijack(endpoint, "/session", fields, connection)
    finally:
        first.close()
