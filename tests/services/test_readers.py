"""Every kind of source of bytes, and what it may do wrong."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from contextlib import aclosing, contextmanager
from io import FileIO
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from buildkit_session.errors import TransferError
from buildkit_session.services.readers import GATHERED, DescriptorReader, chunks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

DATA = os.urandom(GATHERED * 3 + 7)


async def read(source: Any) -> list[bytes]:
    async with aclosing(chunks(source)) as pieces:
        return [piece async for piece in pieces]


def halves() -> Iterator[bytes]:
    yield from (DATA[:100], b"", DATA[100:])


async def async_halves() -> AsyncIterator[bytes]:
    for half in halves():
        await anyio.lowlevel.checkpoint()
        yield half


class Unbuffered:
    def __init__(self) -> None:
        self.file = io.BytesIO(DATA)

    def read(self, size: int) -> bytes:
        return self.file.read(min(size, 1000))


@pytest.mark.parametrize(
    "source",
    [DATA, io.BytesIO(DATA), Unbuffered(), list(halves()), halves(), async_halves(), [bytearray(DATA)], [DATA[:1]] * 9],
    ids=["bytes", "file", "unbuffered", "list", "generator", "async generator", "bytearray", "small"],
)
async def test_what_a_source_has(source: Any) -> None:
    pieces = await read(source)
    assert b"".join(pieces) == (DATA[:1] * 9 if isinstance(source, list) and len(source) == 9 else DATA)
    assert b"" not in pieces


async def test_an_asynchronous_file(tmp_path: Path) -> None:
    """It could be iterated over too, but by lines."""
    (tmp_path / "data").write_bytes(b"\n" * 1000)
    async with await anyio.open_file(tmp_path / "data", "rb") as file:
        assert await read(file) == [b"\n" * 1000]


async def test_a_stream_reader() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(DATA)
    reader.feed_eof()
    assert b"".join(await read(reader)) == DATA


async def test_an_anyio_stream() -> None:
    send, receive = anyio.create_memory_object_stream[bytes](2)
    async with send:
        send.send_nowait(b"a")
        send.send_nowait(b"b")
    async with receive:
        assert await read(receive) == [b"a", b"b"]


async def test_small_pieces_of_an_iterable_leave_their_thread_together() -> None:
    pieces = await read(b"%04d" % number for number in range(10_000))
    assert b"".join(pieces) == b"".join(b"%04d" % number for number in range(10_000))
    assert len(pieces) < 1000


async def test_a_slow_iterable_is_passed_on_as_it_goes() -> None:
    """The second piece is not waited for: the daemon may show something by the first."""
    go_on = threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"a"
        threading.Event().wait(0.05)
        yield b"b"
        go_on.wait(60)
        yield b"c"

    async with aclosing(chunks(slow())) as pieces:
        assert await anext(pieces) in (b"a", b"ab")
        go_on.set()
        assert b"".join([piece async for piece in pieces]).endswith(b"c")


@pytest.mark.parametrize("kind", ["generator", "async generator"])
async def test_a_generator_is_closed_when_it_is_left(kind: str) -> None:
    closed = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * GATHERED
        finally:
            closed.append(True)

    async def async_endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append(True)

    async with aclosing(chunks(endless() if kind == "generator" else async_endless())) as pieces:
        await anext(pieces)
    assert closed == [True]


async def test_a_file_is_left_open() -> None:
    file = io.BytesIO(DATA)
    await read(file)
    assert not file.closed


class BrokenFile:
    def read(self, _size: int) -> bytes:
        raise OSError(5, "Input/output error")


async def broken() -> AsyncIterator[bytes]:
    yield b"a"
    raise RuntimeError("why")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (BrokenFile(), "Input/output error"),
        (broken(), "RuntimeError: why"),
        (io.StringIO("text"), "str, not bytes"),
        (["text"], "str, not bytes"),
        (iter([b"a", 7]), "int, not bytes"),
        (7, "not iterable"),
    ],
)
async def test_a_source_that_fails(source: Any, complaint: str) -> None:
    with pytest.raises(TransferError, match=complaint):
        await read(source)


async def test_a_descriptor(tmp_path: Path) -> None:
    """Of a file, which cannot be waited for, and of a pipe."""
    (tmp_path / "data").write_bytes(DATA)
    with (tmp_path / "data").open("rb") as file:
        assert b"".join(await read(DescriptorReader(file.fileno()))) == DATA
    with pipe() as (ours, theirs):
        writer = threading.Thread(target=theirs.write, args=(DATA,))
        writer.start()
        taken = 0
        async with aclosing(chunks(DescriptorReader(ours.fileno()))) as pieces:
            async for piece in pieces:
                assert piece == DATA[taken : taken + len(piece)]
                taken += len(piece)
                if taken == len(DATA):
                    writer.join()
                    theirs.close()


@contextmanager
def pipe() -> Iterator[tuple[FileIO, FileIO]]:
    ours, theirs = os.pipe()
    with FileIO(ours, "rb") as reading, FileIO(theirs, "wb") as writing:
        yield reading, writing


async def test_waiting_for_a_descriptor_can_be_cancelled() -> None:
    with pipe() as (ours, _):
        before = threading.active_count()
        with anyio.move_on_after(0.05) as scope:
            await read(DescriptorReader(ours.fileno()))
        assert scope.cancelled_caught
        assert threading.active_count() == before
