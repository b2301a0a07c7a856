"""Bytes through asyncio with nothing around them, as fast as its transports go."""

from __future__ import annotations

import asyncio
from typing import Final, cast

__all__ = ["Pump"]

BLOCK: Final = bytes(256 * 1024)


class Pump(asyncio.BufferedProtocol):
    """Counts what arrives and sends blocks of 256 KiB.

    Attributes:
        first: what arrived with the first read.
        received: bytes that have arrived.
    """

    def __init__(self) -> None:
        self.first = b""
        self.received = 0
        self._buffer = memoryview(bytearray(len(BLOCK)))
        self._transport: asyncio.Transport | None = None
        self._wanted = 0
        self._enough = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.first = self.first or bytes(self._buffer[: min(nbytes, 9)])
        self.received += nbytes
        if self.received >= self._wanted:
            self._enough.set()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def write(self, data: bytes) -> None:
        """Send without waiting."""
        assert self._transport is not None
        self._transport.write(data)

    async def send(self, size: int) -> None:
        """Send at least ``size`` bytes in blocks."""
        for _ in range(-(-size // len(BLOCK))):
            self.write(BLOCK)
            await self._room.wait()

    async def received_at_least(self, size: int) -> None:
        """Wait until so many bytes have arrived in all."""
        self._wanted = size
        self._enough.clear()
        if self.received < size:
            await self._enough.wait()
