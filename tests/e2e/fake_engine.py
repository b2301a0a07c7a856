"""An Engine as a script, for what no real one can be made to do: dying at a given step, lying, flooding.

It listens on a unix or a TCP socket, answers ``/_ping`` and ``/build/cancel`` by itself, knows no ``/grpc``, and gives
the two connections of a build to the test's script, a coroutine that says in order what this daemon does:

.. code-block:: python

    async def script(engine: FakeEngine) -> None:
        session = await engine.session()            # POST /session, answered with 101; an h2 client from then on
        answer = await engine.build()               # POST /build, its head answered
        await answer.send({"stream": "hello"})
        await answer.end()

    async with fake_engine(script) as engine, bk.connect(engine.address) as client: ...

A script ends with its test, wherever it waits, and quietly when the client hangs up. Any other exception in it fails
the test.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import socket
import struct
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from scripted_peer import Answer, Peer, grpc_message, request

from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from buildkit_session.messages.moby.buildkit.v1 import StatusResponse

    Script = Callable[["FakeEngine"], Awaitable[None]]

__all__ = ["CHUNKED", "FILE_SEND", "FILE_SYNC", "FakeEngine", "Http", "HungUp", "SessionPeer", "entry", "fake_engine"]

FILE_SYNC = b"/moby.filesync.v1.FileSync/DiffCopy"
FILE_SEND = b"/moby.filesync.v1.FileSend/DiffCopy"

SWITCHING = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nBuilder-Version: 2\r\nOstype: linux\r\nContent-Length: 0\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
UNKNOWN = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


class HungUp(Exception):
    """The client has closed the connection that the script waits on."""


class Http:
    """One accepted connection whose request was read."""

    def __init__(self, sock: socket.socket, head: bytes) -> None:
        self.head = head
        self.sock = sock

    async def write(self, data: bytes) -> None:
        """Write raw bytes."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def send(self, *entries: object) -> None:
        """Send JSON values, each in a chunk and on a line of its own."""
        for entry in entries:
            await self.send_raw(json.dumps(entry).encode() + b"\r\n")

    async def send_raw(self, data: bytes) -> None:
        """Send one chunk."""
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def trace(self, status: StatusResponse) -> None:
        """Send progress."""
        await self.send({"id": "moby.buildkit.trace", "aux": base64.b64encode(bytes(status)).decode()})

    async def end(self) -> None:
        """End the answer as a build that succeeded does."""
        await self.write(b"0\r\n\r\n")

    def close(self) -> None:
        """Say nothing more and hear nothing more; a pending read of the script ends too."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Close so that the client sees a reset; TCP only. A pending read of the script waits for its end."""
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)


class SessionPeer(Peer):
    """The daemon's end of a session."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, connection=None)  # type: ignore[arg-type]  # the served end is the library's own

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until received bytes make ``condition`` true.

        Raises:
            HungUp: the client closed the connection first.
        """
        while not condition():
            if self.closed:
                raise HungUp
            self._news.clear()
            await self._news.wait()

    async def start(self, path: bytes, *extra: tuple[bytes, bytes]) -> int:
        """Open a call; returns its stream."""
        return await self.open(request(path, *extra))

    async def file_sync(self, name: bytes, *extra: tuple[bytes, bytes]) -> int:
        """Ask for a directory; returns the stream, its listing complete."""
        stream = await self.start(FILE_SYNC, (b"dir-name", name), *extra)
        await self.until(lambda: bool(self.answers[stream].ended or self.listed(stream)))
        return stream

    def packets(self, stream: int) -> list[Packet]:
        """The whole packets that have arrived on a stream."""
        packets, data, position = [], bytes(self.answers[stream].data), 0
        while position + 5 <= len(data):
            end = position + 5 + int.from_bytes(data[position + 1 : position + 5], "big")
            if end > len(data):
                break
            packets.append(Packet.parse(data[position + 5 : end]))
            position = end
        return packets

    def listed(self, stream: int) -> bool:
        """Whether the end of the listing has arrived."""
        return any(
            packet.type == PacketPacketType.PACKET_STAT and packet.stat is None for packet in self.packets(stream)
        )

    def names(self, stream: int) -> list[bytes]:
        """The listed paths."""
        return [packet.stat.path for packet in self.packets(stream) if packet.stat is not None]

    def requested(self, stream: int) -> list[int]:
        """The entries whose content the client has asked for."""
        return [packet.id for packet in self.packets(stream) if packet.type == PacketPacketType.PACKET_REQ]

    def has_fin(self, stream: int) -> bool:
        return any(packet.type == PacketPacketType.PACKET_FIN for packet in self.packets(stream))

    async def send_packets(self, stream: int, *packets: Packet, end: bool = False) -> None:
        await self.send(stream, b"".join(grpc_message(bytes(packet)) for packet in packets), end=end)

    async def send_listing(self, stream: int, *stats: Stat) -> None:
        """Send entries and the end of the listing."""
        entries = (Packet(type=PacketPacketType.PACKET_STAT, stat=stat) for stat in (*stats, None))
        await self.send_packets(stream, *entries)

    async def send_content(self, stream: int, number: int, *pieces: bytes) -> None:
        """Send pieces of an entry; an empty one ends it."""
        data = PacketPacketType.PACKET_DATA
        await self.send_packets(stream, *(Packet(type=data, id=number, data=piece) for piece in pieces))

    async def send_fin(self, stream: int) -> None:
        await self.send_packets(stream, Packet(type=PacketPacketType.PACKET_FIN))

    async def finish_sync(self, stream: int) -> Answer:
        """End a FileSync call as a daemon does that has all it wants."""
        await self.send_fin(stream)
        return await self.answer(stream)

    async def export_tree(self, files: dict[bytes, bytes], *extra: tuple[bytes, bytes]) -> int:
        """Export a flat directory, whole and in order; returns the stream."""
        stream = await self.start(FILE_SEND, *extra)
        await self.send_listing(stream, *(Stat(path=name, mode=0o644, size=len(files[name])) for name in sorted(files)))
        await self.until(lambda: len(self.requested(stream)) == len(files))
        for number, name in enumerate(sorted(files)):
            await self.send_content(stream, number, *filter(None, [files[name]]), b"")
        await self.until(lambda: self.has_fin(stream))
        await self.send_fin(stream)
        await self.reset(stream)
        return stream


class FakeEngine:
    """See the module.

    Attributes:
        address: for ``connect``.
        cancelled: heads of the requests to ``/build/cancel``.
        pings: answers ``/_ping`` while true; silent otherwise.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.cancelled: list[bytes] = []
        self.pings = True
        self._sockets: list[socket.socket] = []
        self._asked = {path: anyio.create_memory_object_stream[Http](math.inf) for path in ("session", "build")}

    async def asked(self, path: str) -> Http:
        """Wait for a request to ``session`` or ``build`` and return its connection, unanswered."""
        return await self._asked[path][1].receive()

    async def session(self) -> SessionPeer:
        """Wait for a session and take it up."""
        return await self.take_up(await self.asked("session"))

    async def take_up(self, http: Http) -> SessionPeer:
        """Answer 101 and begin HTTP/2."""
        await http.write(SWITCHING)
        peer = SessionPeer(http.sock)
        self._tasks.start_soon(_quietly, peer.run)
        peer.h2.initiate_connection()
        await peer.flush()
        await peer.ping()
        return peer

    async def build(self) -> Http:
        """Wait for a build and answer the head."""
        http = await self.asked("build")
        await http.write(CHUNKED)
        return http

    # -- inside --

    async def run(self, listener: socket.socket, script: Script) -> None:
        """Serve until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(_quietly, script, self)
            while True:
                sock, _ = await asyncio.get_running_loop().sock_accept(listener)
                self._sockets.append(sock)
                self._tasks.start_soon(_quietly, self._take, sock)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        for sender, receiver in self._asked.values():
            sender.close()
            receiver.close()

    async def _take(self, sock: socket.socket) -> None:
        head = await _read_head(sock)
        path = head.split(b" ", 2)[1].partition(b"?")[0]
        if path.endswith(b"/build/cancel"):
            self.cancelled.append(head)
            await asyncio.get_running_loop().sock_sendall(sock, EMPTY)
        elif path.endswith(b"/_ping"):
            if self.pings:
                await asyncio.get_running_loop().sock_sendall(sock, PING)
        elif path.endswith(b"/grpc"):
            await asyncio.get_running_loop().sock_sendall(sock, UNKNOWN)
        else:
            self._asked[path.rpartition(b"/")[2].decode()][0].send_nowait(Http(sock, head))


async def _quietly(function: Callable[..., Awaitable[None]], *args: object) -> None:
    with suppress(HungUp, ConnectionError):
        await function(*args)


async def _read_head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = await asyncio.get_running_loop().sock_recv(sock, 65536)
        if not data:
            raise HungUp
        head += data
    return head


@asynccontextmanager
async def fake_engine(script: Script, *, tcp: bool = False) -> AsyncIterator[FakeEngine]:
    """Run an Engine by a script until the block is left."""
    with tempfile.TemporaryDirectory(prefix="bks-") as folder:
        path = Path(folder) / "engine.sock"
        with socket.socket(socket.AF_INET if tcp else socket.AF_UNIX) as listener:
            listener.bind(("127.0.0.1", 0) if tcp else str(path))
            listener.listen()
            listener.setblocking(False)
            engine = FakeEngine(f"tcp://127.0.0.1:{listener.getsockname()[1]}" if tcp else f"unix://{path}")
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(engine.run, listener, script)
                    yield engine
                    tasks.cancel_scope.cancel()
            finally:
                engine.close()


def entry(name: bytes, size: int = 0, mode: int = 0o644) -> Stat:
    """A listed file."""
    return Stat(path=name, mode=mode, size=size)
