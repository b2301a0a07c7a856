"""The session's server: its router, streams and event loop code, as a daemon is served."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from benchmarks.programs.serving import MESSAGE, metered, serve, wanted_messages
from buildkit_session.grpc.codec import BYTES
from buildkit_session.grpc.router import Codecs, Route, Router
from buildkit_session.grpc.server import Server
from buildkit_session.http2.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buildkit_session.grpc.incoming_call import IncomingCall


async def send_out(call: IncomingCall[bytes, bytes]) -> None:
    async with metered():
        for _ in range(wanted_messages(await call.recv() or b"")):
            await call.send(MESSAGE)


async def take_in(call: IncomingCall[bytes, bytes]) -> None:
    received = 0
    async with metered():
        while bodies := await call.recv_many():
            received += sum(map(len, bodies))
    await call.send(received.to_bytes(8, "big"))


@asynccontextmanager
async def listening(path: str) -> AsyncIterator[None]:
    codecs = Codecs(BYTES, BYTES)
    router = Router(
        [
            Route("/bench.Stream/Out", send_out, lambda _: codecs),
            Route("/bench.Stream/In", take_in, lambda _: codecs),
        ]
    )
    async with anyio.create_task_group() as calls:
        server = Server(router, calls)
        loop = asyncio.get_running_loop()
        async with await loop.create_unix_server(lambda: Connection(server.accept), path):
            yield
        calls.cancel_scope.cancel()


serve(listening)
