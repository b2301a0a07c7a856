"""Contexts that are streams, with real daemons."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import tarfile
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio
import pytest
from leftovers import nothing_left
from service_builds import build
from tricky_cases import tricky

import buildkit_session as bk
from buildkit_session.engine.events import ImageId
from buildkit_session.errors import BuildError, TransferError
from buildkit_session.services.filesend import FileSend
from buildkit_session.services.targets import StreamTarget
from buildkit_session.services.upload import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

DOCKERFILE = b"FROM scratch\nCOPY data /\n"


def archive(kind: int = tarfile.PAX_FORMAT, *, first: str = "Dockerfile", mtime: float = 0) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for name, content in ((first, DOCKERFILE), ("Dockerfile", DOCKERFILE), ("data", bytes(5_000_000))):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), mtime
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


async def upload(daemon: Daemon, source: Any) -> dict[str, bytes]:
    """Build with a stream for context; returns the files of the result."""
    service = Upload(source)
    result = io.BytesIO()
    target = FileSend({0: StreamTarget(result)})
    await build(daemon, [service, target], remote=service.url, outputs=[("tar", {})])
    result.seek(0)
    with tarfile.open(fileobj=result) as tar:
        return {entry.name: file.read() for entry in tar if (file := tar.extractfile(entry))}


@tricky(38)
@pytest.mark.parametrize(
    "context",
    [
        archive(tarfile.USTAR_FORMAT),
        archive(mtime=1.5),
        archive(first="d\u00e9j\u00e0 vu"),
        archive(tarfile.GNU_FORMAT, first="x" * 200),
        gzip.compress(archive(mtime=1.5)),
    ],
    ids=["ustar", "pax time", "pax name", "gnu name", "gzip"],
)
async def test_an_archive(daemon: Daemon, context: bytes) -> None:
    assert await upload(daemon, io.BytesIO(context)) == {"data": bytes(5_000_000)}


@tricky(38)
async def test_a_stream_that_is_still_being_made(daemon: Daemon) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        data = archive(mtime=1.5)
        for start in range(0, len(data), 1_000_000):
            yield data[start : start + 1_000_000]
            await anyio.sleep(0.01)

    assert await upload(daemon, pieces()) == {"data": bytes(5_000_000)}


@contextmanager
def pipe() -> Iterator[BinaryIO]:
    """An ordinary file that blocks, as of a process that makes the archive."""
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(archive(mtime=1.5))

    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(reading, "rb") as file:
        yield file
    feeder.join()


def stream_reader() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(archive(mtime=1.5))
    reader.feed_eof()
    return reader


async def generator() -> AsyncIterator[bytes]:
    data = archive(mtime=1.5)
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


@pytest.mark.parametrize("kind", ["pipe", "reader", "generator"])
async def test_any_source_is_a_context(daemon: Daemon, tmp_path: Path, kind: str) -> None:
    """Through the client, which looks at the first bytes of it."""
    with ExitStack() as stack:
        source: Any
        match kind:
            case "pipe":
                source = stack.enter_context(pipe())
            case "reader":
                source = stream_reader()
            case _:
                source = generator()
        async with bk.connect(daemon.address) as client:
            await client.build(source, outputs=[bk.output.local(tmp_path)])
    assert (tmp_path / "data").read_bytes() == bytes(5_000_000)


async def test_a_build_whose_source_hangs_can_be_cancelled(daemon: Daemon, tmp_path: Path) -> None:
    """In the middle of the archive; the source is told."""
    begun, ended = anyio.Event(), anyio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield archive(mtime=1.5)[:1_000_000]
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async def build() -> None:
        async with bk.connect(daemon.address) as client:
            await client.build(hanging(), outputs=[bk.output.local(tmp_path / "out")])

    async with nothing_left(tmp_path), anyio.create_task_group() as tasks:
        tasks.start_soon(build)
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert ended.is_set()


async def test_a_dockerfile_alone(daemon: Daemon) -> None:
    service = Upload(b"FROM scratch\nLABEL a=b\n")
    assert any(isinstance(event, ImageId) for event in await build(daemon, [service], remote=service.url))


async def test_an_empty_archive_is_no_dockerfile(daemon: Daemon) -> None:
    with pytest.raises(BuildError, match=r"failed to read [dD]ockerfile") as caught:
        await upload(daemon, bytes(10_240))
    assert caught.value.advice == "name another one with -f (file=)"


@tricky(38)
async def test_a_source_that_fails_fails_the_build(daemon: Daemon) -> None:
    """A daemon takes an archive that ends early for a whole one, if the call ends well."""

    async def failing() -> AsyncIterator[bytes]:
        yield archive(mtime=1.5)[:1_000_000]
        raise RuntimeError("the tap is off")

    with pytest.raises(BuildError) as caught:
        await upload(daemon, failing())
    assert "tap" not in str(caught.value)
    assert isinstance(caught.value.__cause__, TransferError)
    assert "the tap is off" in str(caught.value.__cause__)
