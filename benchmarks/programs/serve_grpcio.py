"""The asyncio server of grpcio, through its read and write calls, which are faster than its generators."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from benchmarks.programs.serving import MESSAGE, metered, serve, wanted_messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def send_out(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    async with metered():
        for _ in range(wanted_messages(request)):
            await context.write(MESSAGE)


async def take_in(_requests: Any, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    received = 0
    async with metered():
        while (body := await context.read()) is not grpc.aio.EOF:
            received += len(body)
    return received.to_bytes(8, "big")


@asynccontextmanager
async def listening(path: str) -> AsyncIterator[None]:
    server = grpc.aio.server()
    handlers = {
        "Out": grpc.unary_stream_rpc_method_handler(send_out),
        "In": grpc.stream_unary_rpc_method_handler(take_in),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Stream", handlers),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    yield
    await server.stop(None)


serve(listening)
