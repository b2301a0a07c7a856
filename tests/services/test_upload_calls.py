"""Uploads over a real connection: they are not read ahead, block nothing, and end with their call."""

from __future__ import annotations

import os
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scripted_peer import Peer, request, serving

from buildkit_session.errors import TransferError
from buildkit_session.grpc.router import Router
from buildkit_session.grpc.status import Status
from buildkit_session.messages.grpc.health.v1 import HealthCheckRequest
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.health import Health
from buildkit_session.services.upload import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


class Served:
    def __init__(self, peer: Peer, upload: Upload, failures: list[Exception]) -> None:
        self.peer = peer
        self.failures = failures
        self._path = upload.url.removeprefix("http://buildkit-session")

    async def pull(self, path: str | None = None) -> int:
        """Begin to pull, as a daemon does: it sends nothing, and does not end its side."""
        extra = [(b"urlpath", (self._path if path is None else path).encode()), (b"urlhost", b"buildkit-session")]
        return await self.peer.open(request(b"/moby.upload.v1.Upload/Pull", *extra))

    async def healthy(self) -> bool:
        answer = await self.peer.call(b"/grpc.health.v1.Health/Check", bytes(HealthCheckRequest()))
        return answer.status == b"0"

    def received(self, stream_id: int) -> bytes:
        return b"".join(BytesMessage.parse(body).data for body in self.peer.answers[stream_id].bodies)


@asynccontextmanager
async def served(source: Any) -> AsyncIterator[Served]:
    upload, failures = Upload(source), list[Exception]()
    router = Router([*upload.routes(), *Health().routes()])
    async with serving(router, on_error=lambda _path, error: failures.append(error)) as peer:
        yield Served(peer, upload, failures)


class Endless:
    """Gives bytes without end, and counts them."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int) -> bytes:
        self.given += size
        return bytes(size)


async def test_a_source_is_read_no_faster_than_it_is_taken() -> None:
    """So it may be of any size: what nobody takes stays where it is, and what is taken is forgotten."""
    source = Endless()
    async with served(source) as it:
        it.peer.h2.increment_flow_control_window(16 * MIB)  # of the connection, for others
        it.peer.returns_credit = False
        stream_id = await it.pull()
        while True:
            before = source.given
            await it.peer.ping()
            await anyio.sleep(0.1)
            if source.given == before:
                break
        assert 0 < source.given <= 8 * MIB
        assert await it.healthy()
        await it.peer.reset(stream_id)
        await it.peer.ping()
        assert await it.healthy()
        assert source.given <= 8 * MIB


@contextmanager
def pipe() -> Iterator[tuple[Any, int]]:
    """An ordinary file for the end that is read, a descriptor for the other; that is closed already, or closed here."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file:
        try:
            yield file, writing
        finally:
            os.close(writing)


async def test_a_file_that_blocks_does_not_block_the_loop() -> None:
    """A pipe that nobody has written to yet; what comes is passed on as it comes."""
    with pipe() as (source, writing):
        async with served(source) as it:
            stream_id = await it.pull()
            for number in range(3):
                assert await it.healthy()
                os.write(writing, b"%d" % number * 600)
                await until_received(it, stream_id, 600 * (number + 1))
            await it.peer.reset(stream_id)
            os.write(writing, b"x")  # lets the thread go that waits for it
            assert await it.healthy()


async def until_received(it: Served, stream_id: int, size: int) -> None:
    await it.peer.until(lambda: len(it.received(stream_id)) >= size)


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_source_that_hangs_ends_with_its_call(kind: str) -> None:
    """The asynchronous one is cancelled at once; of the other the thread is left to itself, and the call is over."""
    begun, ended, go_on = anyio.Event(), anyio.Event(), threading.Event()

    async def hanging() -> AsyncIterator[bytes]:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        yield b""

    class Stuck:
        def read(self, _size: int) -> bytes:
            anyio.from_thread.run_sync(begun.set)
            go_on.wait(60)
            return b""

    source = hanging() if kind == "async" else Stuck()
    async with served(source) as it:
        stream_id = await it.pull()
        with anyio.fail_after(30):
            await begun.wait()
            assert await it.healthy()
            await it.peer.reset(stream_id)
            if kind == "async":
                await ended.wait()
            while not it.failures:  # noqa: ASYNC110 - of the call that was reset
                await anyio.sleep(0.01)
        assert await it.healthy()
    go_on.set()


async def test_a_source_that_raises_ends_the_call_with_an_error() -> None:
    """After what came before; the daemon learns the type of error, the caller the text."""

    def failing() -> Iterator[bytes]:
        yield b"x" * 600
        raise ValueError("hunter2")

    async with served(failing()) as it:
        answer = await it.peer.answer(await it.pull())
    assert answer.status == b"%d" % Status.INTERNAL
    assert b"hunter2" not in answer.message
    (error,) = it.failures
    assert isinstance(error, TransferError)
    assert "hunter2" in str(error)


async def test_each_id_is_pulled_once_even_while_it_is_pulled() -> None:
    go_on = anyio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a" * 600
        await go_on.wait()
        yield b"b"

    async with served(slow()) as it:
        for path in ("", "/", "/" + "0" * 32, "/../x", "/a\u00e9"):
            answer = await it.peer.answer(await it.pull(path))
            assert answer.status == b"%d" % Status.NOT_FOUND
        first = await it.pull()
        await it.peer.until(lambda: len(it.received(first)) == 600)
        again = await it.peer.answer(await it.pull())
        assert again.status == b"%d" % Status.NOT_FOUND
        go_on.set()
        assert (await it.peer.answer(first)).status == b"0"
        assert it.received(first) == b"a" * 600 + b"b"
