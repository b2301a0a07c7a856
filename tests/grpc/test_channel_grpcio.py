"""Calls to a server of grpcio, where it is installed; what they show, ``test_channel`` shows with other servers."""

from __future__ import annotations

import asyncio
import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from scripted_peer import PATIENCE

from buildkit_session.errors import RpcError
from buildkit_session.grpc.channel import Channel
from buildkit_session.grpc.codec import BYTES
from buildkit_session.grpc.status import Status
from buildkit_session.http2.client_connection import ClientConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from buildkit_session.grpc.outgoing_call import OutgoingCall

# Not just "grpc", which without grpcio is the folder of these tests.
pytest.importorskip("grpc.aio", reason="grpcio is not installed")
grpc: Any = importlib.import_module("grpc")

pytestmark = pytest.mark.anyio

CALL = "/test.Test/Call"


@asynccontextmanager
async def served(handler: Callable[[Iterator[bytes], Any], Iterator[bytes]]) -> AsyncIterator[Channel]:
    server = grpc.server(ThreadPoolExecutor(8))
    method = grpc.stream_stream_rpc_method_handler(handler)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Call": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _, connection = await asyncio.get_running_loop().create_connection(ClientConnection, "127.0.0.1", port)
    try:
        yield Channel(connection)
    finally:
        connection.close()
        await connection.closed.wait()
        server.stop(None)


def call_of(
    channel: Channel, *, timeout: float | None = None
) -> AbstractAsyncContextManager[OutgoingCall[bytes, bytes]]:
    metadata = [("key", "value"), ("key", "other")]
    return channel.call(CALL, request=BYTES, response=BYTES, timeout=timeout, metadata=metadata)


def echo(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    context.send_initial_metadata((("seen", ",".join(v for k, v in context.invocation_metadata() if k == "key")),))
    yield from requests


async def test_echo() -> None:
    async with served(echo) as channel, call_of(channel, timeout=PATIENCE) as call:
        for body in (b"a", b"", b"x" * 1_000_000):
            await call.send(body)
            assert await call.recv() == body
        call.end()
        assert await call.recv() is None
        assert (await call.headers()).get("seen") == "value,other"


async def test_status() -> None:
    def fail(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield next(requests)
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: ü 100%")

    async with served(fail) as channel, call_of(channel, timeout=PATIENCE) as call:
        await call.send(b"x")
        assert await call.recv() == b"x"
        with pytest.raises(RpcError) as caught:
            await call.recv()

    assert (caught.value.code, caught.value.message) == (Status.NOT_FOUND, "no such thing: ü 100%")


async def test_unknown_method() -> None:
    async with served(echo) as channel, channel.call("/a.B/C", request=BYTES, response=BYTES) as call:
        call.end()
        with pytest.raises(RpcError) as caught:
            await call.recv()

    assert caught.value.code == Status.UNIMPLEMENTED


async def test_answer_before_all_was_asked() -> None:
    def enough(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        yield next(requests)[:1]

    async with served(enough) as channel, call_of(channel, timeout=PATIENCE) as call:
        for _ in range(100):
            await call.send(b"x" * 100_000)
        call.end()
        assert await call.only_response() == b"x"


async def test_leaving_cancels() -> None:
    cancelled = threading.Event()

    def endless(_requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(cancelled.set)
        while context.is_active():
            yield b"x" * 1000

    async with served(endless) as channel:
        async with call_of(channel) as call:
            assert await call.recv() == b"x" * 1000
        assert await anyio.to_thread.run_sync(cancelled.wait, PATIENCE)


async def test_deadline() -> None:
    def never(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        yield from requests

    async with served(never) as channel:
        with pytest.raises(RpcError) as caught:
            async with call_of(channel, timeout=0.1) as call:
                await call.recv()

    assert caught.value.code == Status.DEADLINE_EXCEEDED
