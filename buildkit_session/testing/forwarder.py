"""A stand-in for buildkitd: a socket whose connections end in the BuildKit that a Docker Engine has inside.

The Engine gives its BuildKit away to whoever upgrades ``POST /grpc``. A forwarder does that for every client, and pipes
bytes from then on, so that clients which know only a bare BuildKit daemon can talk to the Engine.

Source: moby/moby:api/server/router/grpc/grpc_routes.go (serveGRPC).
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

from buildkit_session.testing.isolated import state_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

__all__ = ["forward"]

_UPGRADE = b"POST /grpc HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
_ACCEPTED = b"HTTP/1.1 101 "
_PIECE = 1 << 18  # bytes


@contextmanager
def forward(address: str) -> Iterator[str]:
    """Offer the BuildKit inside an Engine on a socket of its own, until the end of the block.

    Args:
        address: of the Engine, ``unix:///path``.

    Yields:
        The address of the stand-in, ``unix:///path``.
    """
    engine = address.removeprefix("unix://")
    with state_folder() as home:
        path = home / "buildkitd.sock"
        serving = _Serving(engine, path)
        serving.start()
        try:
            yield f"unix://{path}"
        finally:
            serving.stop()


class _Serving:
    """A thread with an event loop: it serves while a test blocks, or runs a loop of its own."""

    def __init__(self, engine: str, path: Path) -> None:
        self._engine = engine
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        # The connections of clients that have not closed theirs are cancelled with the loop.
        async with await asyncio.start_unix_server(self._connected, self._path):
            self._ready.set()
            await self._ending.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _closing(writer), _connection(self._engine) as (from_engine, to_engine):
            to_engine.write(_UPGRADE)
            answer = await from_engine.readuntil(b"\r\n\r\n")
            if answer.startswith(_ACCEPTED):
                # One side that ends does not end the other: a gRPC client closes when it has read its answers.
                await asyncio.gather(_pipe(reader, to_engine), _pipe(from_engine, writer))


@asynccontextmanager
async def _connection(path: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    async with _closing(writer):
        yield reader, writer


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    except (OSError, asyncio.IncompleteReadError):
        pass  # a peer went away, which ends this connection and no other
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()
