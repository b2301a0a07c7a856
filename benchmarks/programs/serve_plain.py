"""The ceiling: an asyncio protocol that moves bytes, without HTTP/2. Its client is ``plain_driver``."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from benchmarks.programs.plain import Pump
from benchmarks.programs.serving import metered, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def listening(path: str) -> AsyncIterator[None]:
    async with anyio.create_task_group() as calls:

        def accept() -> Pump:
            calls.start_soon(answer, pump := Pump())
            return pump

        async with await asyncio.get_running_loop().create_unix_server(accept, path):
            yield
        calls.cancel_scope.cancel()


async def answer(pump: Pump) -> None:
    """Serve one connection: its first 9 bytes are a direction and a number of bytes."""
    await pump.received_at_least(9)
    direction, size = bytes(pump.first[:1]), int.from_bytes(pump.first[1:9], "big")
    async with metered():
        if direction == b"o":
            await pump.send(size)
        else:
            await pump.received_at_least(9 + size)
    pump.write(b"\0")


serve(listening)
