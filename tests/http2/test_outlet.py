"""Whatever a socket takes at a time, what was written arrives once, whole and in order."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import asynccontextmanager
from itertools import cycle
from typing import TYPE_CHECKING, cast

import pytest

from buildkit_session.http2.outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


class Writing(asyncio.Protocol):
    """Writes lists of pieces while there is room."""

    def __init__(self, batches: list[list[bytes]]) -> None:
        self.batches = batches
        self.paused = False
        self.pauses = 0
        self.lost = asyncio.Event()
        self.done = asyncio.Event()
        self.outlet: Outlet | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.outlet = Outlet(cast("asyncio.Transport", transport))
        self.go_on()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost.set()

    def pause_writing(self) -> None:
        self.pauses += 1
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        assert self.outlet is not None
        self.outlet.write_rest()
        self.go_on()

    def go_on(self) -> None:
        assert self.outlet is not None
        while self.batches and not self.paused:
            self.outlet.write(self.batches.pop(0))
        if not self.batches and not self.paused:
            self.done.set()


@asynccontextmanager
async def writing(batches: list[list[bytes]]) -> AsyncIterator[tuple[Writing, asyncio.Transport, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    theirs.setblocking(False)
    with theirs:
        protocol = Writing(batches)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
        try:
            yield protocol, transport, theirs
        finally:
            if not protocol.lost.is_set():
                transport.abort()
                await protocol.lost.wait()


def batches_of(seed: int) -> list[list[bytes]]:
    chance = random.Random(seed)  # noqa: S311 - no secret
    sizes = [0, 1, 9, 100, 5000, 16384, 40000]
    return [[chance.randbytes(chance.choice(sizes)) for _ in range(chance.choice((1, 3, 40, 700)))] for _ in range(8)]


@pytest.mark.parametrize("seed", range(6))
async def test_all_arrives_in_order(seed: int) -> None:
    batches = batches_of(seed)
    wanted = b"".join(map(b"".join, batches))
    loop, got = asyncio.get_running_loop(), bytearray()
    sizes = cycle((1, 700, 100_000, 50_000))
    async with asyncio.timeout(30), writing(batches) as (protocol, _, theirs):
        while len(got) < len(wanted):
            got += await loop.sock_recv(theirs, next(sizes))
        await protocol.done.wait()

    assert got == wanted
    assert protocol.pauses


async def test_last_words_follow_what_waits() -> None:
    loop, got = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(30), writing([[b"a" * 100_000, b"b" * 100_000]]) as (protocol, transport, theirs):
        assert protocol.paused
        assert protocol.outlet is not None
        protocol.outlet.write_last([b"the end"])
        transport.close()
        while data := await loop.sock_recv(theirs, 65536):
            got += data

    assert got == b"a" * 100_000 + b"b" * 100_000 + b"the end"


async def test_a_peer_that_went_is_left_to_the_transport() -> None:
    async with asyncio.timeout(30), writing([]) as (protocol, transport, theirs):
        theirs.close()
        assert protocol.outlet is not None
        protocol.outlet.write([b"x"] * 1000)
        await protocol.lost.wait()

        assert transport.is_closing()
