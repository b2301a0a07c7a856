"""A daemon with BuildKit's own API as a script: it answers any method with anything, on either way to it.

As a buildkitd it speaks HTTP/2 from the first byte; as an Engine it lets ``POST /grpc`` and ``POST /session`` be taken
over. ``ListWorkers`` and ``Session`` are answered as daemons do, all else is the test's:

.. code-block:: python

    async def solve(call: Call) -> None:
        await call.recv()
        await call.send(bytes(v1.SolveResponse({"a": "b"})))

    async with fake_buildkit({"Control/Solve": solve}, kind="hijack") as buildkit, bk.connect(buildkit.address): ...

Messages are bytes on both sides, so that a script can send what no schema allows.
"""

from __future__ import annotations

import asyncio
import math
import socket
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import anyio

from buildkit_session.grpc.channel import Channel
from buildkit_session.grpc.codec import BYTES
from buildkit_session.grpc.router import Codecs, Route, Router
from buildkit_session.grpc.server import Server
from buildkit_session.http2.client_connection import ClientConnection
from buildkit_session.http2.connection import Connection
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.messages.moby.buildkit.v1.types import WorkerRecord
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.pieces import PIECES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from anyio.abc import TaskGroup

    from buildkit_session.grpc.incoming_call import IncomingCall

    Script: TypeAlias = Callable[[IncomingCall[bytes, bytes]], Awaitable[None]]
    Kind: TypeAlias = Literal["direct", "hijack"]

__all__ = ["KINDS", "FakeBuildkit", "answering", "fake_buildkit", "silent"]

KINDS: Final = ("direct", "hijack")

_SERVICES: Final = {
    "Control": "/moby.buildkit.v1.Control",
    "LLBBridge": "/moby.buildkit.v1.frontend.LLBBridge",
    "Content": "/containerd.services.content.v1.Content",
}
_PING: Final = (
    b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nBuilder-Version: 2\r\nOstype: linux\r\nContent-Length: 0\r\n\r\n"
)
_SWITCHING: Final = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


def answering(*messages: bytes) -> Script:
    """A method with these answers, and then success."""

    async def script(call: IncomingCall[bytes, bytes]) -> None:
        await call.recv()
        for message in messages:
            await call.send(message)

    return script


async def silent(call: IncomingCall[bytes, bytes]) -> None:
    """A method that never answers."""
    await anyio.sleep_forever()


class FakeBuildkit:
    """See the module.

    Attributes:
        address: for ``connect``.
        connections: all that were accepted for the API, in order.
        asked: the methods that were called, in order.
        running: the scripts that run now, by method.
    """

    def __init__(self, address: str, kind: Kind, scripts: Mapping[str, Script]) -> None:
        self.address = address
        self.connections: list[Connection] = []
        self.asked: list[str] = []
        self.running: list[str] = []
        self._kind = kind
        self._tasks: TaskGroup
        self._sockets: list[socket.socket] = []
        self._send, self._receive = anyio.create_memory_object_stream[Channel](math.inf)
        known = {
            "Control/ListWorkers": answering(bytes(v1.ListWorkersResponse([WorkerRecord(id="w")]))),
            **scripts,
        }
        self._router = Router(
            Route(f"{_SERVICES[service]}/{method}", self._noted(name, script), lambda _: Codecs(BYTES, BYTES))
            for name, script in known.items()
            for service, _, method in [name.partition("/")]
        )
        if "Control/Session" not in scripts:
            path = f"{_SERVICES['Control']}/Session"
            self._router.add(Route(path, self._tunnel, lambda _: Codecs(PIECES, PIECES)))

    async def session(self) -> Channel:
        """Wait for the next session and return a channel to it."""
        return await self._receive.receive()

    def _noted(self, name: str, script: Script) -> Script:
        async def noted(call: IncomingCall[bytes, bytes]) -> None:
            self.asked.append(name)
            self.running.append(name)
            try:
                await script(call)
            finally:
                self.running.remove(name)

        return noted

    async def _tunnel(self, call: IncomingCall[BytesMessage, BytesMessage]) -> None:
        ours, theirs = socket.socketpair()
        await self._adopt(ours)
        reader, writer = await asyncio.open_unix_connection(sock=theirs)

        async def up() -> None:
            while data := await reader.read(65536):
                await call.send(BytesMessage(data=data))
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(up)
                while (piece := await call.recv()) is not None:
                    writer.write(piece.data)
                    await writer.drain()
                group.cancel_scope.cancel()
        finally:
            writer.close()

    async def _adopt(self, sock: socket.socket) -> None:
        """Be the client of a session."""
        _, connection = await asyncio.get_running_loop().create_unix_connection(ClientConnection, sock=sock)
        self.connections.append(connection)
        self._send.send_nowait(Channel(connection))

    async def run(self, listener: socket.socket) -> None:
        """Serve until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            while True:
                sock, _ = await asyncio.get_running_loop().sock_accept(listener)
                self._sockets.append(sock)
                self._tasks.start_soon(self._take, sock)

    async def _take(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        head = b""
        with suppress(ConnectionError):
            while not head.endswith(b"\r\n\r\n") and not head.startswith(b"PRI"):
                data = await loop.sock_recv(sock, 65536)
                if not data:
                    return sock.close()
                head += data
            if head.startswith(b"PRI"):
                return await self._serve(sock, head)
            path = head.split(b" ", 2)[1].partition(b"?")[0]
            if self._kind == "direct":
                sock.close()  # as buildkitd does with HTTP/1.1
            elif path.endswith(b"/_ping"):
                await loop.sock_sendall(sock, _PING)
            elif path.endswith(b"/grpc"):
                await loop.sock_sendall(sock, _SWITCHING)
                await self._serve(sock, b"")
            elif path.endswith(b"/session"):
                await loop.sock_sendall(sock, _SWITCHING)
                await self._adopt(sock)
            else:
                await loop.sock_sendall(sock, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return None

    async def _serve(self, sock: socket.socket, begun: bytes) -> None:
        server = Server(self._router, self._tasks)
        _, connection = await asyncio.get_running_loop().create_unix_connection(
            lambda: Connection(server.accept), sock=sock
        )
        self.connections.append(connection)
        connection.feed(begun)

    def close(self) -> None:
        for connection in self.connections:
            connection.abort()
        for sock in self._sockets:
            sock.close()
        self._send.close()
        self._receive.close()


@asynccontextmanager
async def fake_buildkit(scripts: Mapping[str, Script], *, kind: Kind = "direct") -> AsyncIterator[FakeBuildkit]:
    """Run a daemon by scripts, ``Control/Solve`` and others, until the block is left."""
    with tempfile.TemporaryDirectory(prefix="bks-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "s"
        listener.bind(str(path))
        listener.listen(128)
        listener.setblocking(False)
        buildkit = FakeBuildkit(f"unix://{path}", kind, scripts)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(buildkit.run, listener)
                yield buildkit
                tasks.cancel_scope.cancel()
        finally:
            buildkit.close()
            for connection in buildkit.connections:
                with anyio.CancelScope(shield=True):
                    await connection.closed.wait()
