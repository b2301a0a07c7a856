"""grpclib's server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server, Stream

from benchmarks.programs.serving import MESSAGE, metered, serve, wanted_messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class Identity(CodecBase):  # type: ignore[misc] # grpclib is not there for every type check
    """Messages as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, _message_type: Any) -> bytes:
        return message

    def decode(self, data: bytes, _message_type: Any) -> bytes:
        return data


class Streams:
    """The service."""

    async def send_out(self, stream: Stream[bytes, bytes]) -> None:
        async with metered():
            for _ in range(wanted_messages(await stream.recv_message() or b"")):
                await stream.send_message(MESSAGE)

    async def take_in(self, stream: Stream[bytes, bytes]) -> None:
        received = 0
        async with metered():
            async for body in stream:
                received += len(body)
        await stream.send_message(received.to_bytes(8, "big"))

    def __mapping__(self) -> Mapping[str, Handler]:
        return {
            "/bench.Stream/Out": Handler(self.send_out, Cardinality.UNARY_STREAM, bytes, bytes),
            "/bench.Stream/In": Handler(self.take_in, Cardinality.STREAM_UNARY, bytes, bytes),
        }


@asynccontextmanager
async def listening(path: str) -> AsyncIterator[None]:
    server = Server([Streams()], codec=Identity())
    await server.start(path=path)
    yield
    server.close()
    await server.wait_closed()


serve(listening)
