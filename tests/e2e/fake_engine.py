"""An Engine as a script, for what no real one can be made to do: dying at a given step, lying, flooding.

It listens on a unix or a TCP socket, answers ``/_ping`` and ``/build/cancel`` by itself, and gives a build and its
session to the test's script, a coroutine that says in order what this daemon does. The build comes through BuildKit's
own API, or as ``POST /build`` from an Engine that has no such API; one script can do for both:

.. code-block:: python

    async def script(engine: FakeEngine) -> None:
        session = await engine.session()            # POST /session, answered with 101; an h2 client from then on
        answer = await engine.build()               # Solve and Status, or POST /build with its head answered
        await answer.trace(StatusResponse(...))
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
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from fake_control import ControlPeer, HungUp, Solve, half_closed, reset, shut
from scripted_peer import Answer, Peer, grpc_message, request

from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from buildkit_session.messages.moby.buildkit.v1 import StatusResponse

    Script = Callable[["FakeEngine"], Awaitable[None]]

__all__ = [
    "FILE_SEND",
    "FILE_SYNC",
    "WAYS",
    "ControlPeer",
    "FakeEngine",
    "Http",
    "HungUp",
    "Post",
    "SessionPeer",
    "Solve",
    "entry",
    "fake_engine",
]

WAYS = ["hijack", "build"]

FILE_SYNC = b"/moby.filesync.v1.FileSync/DiffCopy"
FILE_SEND = b"/moby.filesync.v1.FileSend/DiffCopy"

SWITCHING = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nBuilder-Version: 2\r\nOstype: linux\r\nContent-Length: 0\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


class Http:
    """One accepted connection whose request was read."""

    def __init__(self, sock: socket.socket, head: bytes) -> None:
        self.head = head
        self.sock = sock

    async def write(self, data: bytes) -> None:
        """Write raw bytes."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    def close(self) -> None:
        shut(self.sock)

    def reset(self) -> None:
        reset(self.sock)

    def half_close(self) -> None:
        half_closed(self.sock)


class Post(Http):
    """One build: its ``POST /build``."""

    async def begin(self) -> None:
        """Begin to tell of it."""
        await self.write(CHUNKED)

    async def trace(self, status: StatusResponse) -> None:
        """Send progress."""
        await self.send({"id": "moby.buildkit.trace", "aux": base64.b64encode(bytes(status)).decode()})

    async def send(self, entry: object) -> None:
        """Send a JSON value, in a chunk and on a line of its own."""
        await self.send_raw(json.dumps(entry).encode() + b"\r\n")

    async def send_raw(self, data: bytes) -> None:
        """Send one chunk."""
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def fail(self, text: str) -> None:
        """Say how it failed."""
        await self.send({"errorDetail": {"message": text}, "error": text})

    async def image(self, digest: str) -> None:
        """Name the image that was made."""
        await self.send({"id": "moby.image.id", "aux": {"ID": digest}})

    async def end(self) -> None:
        """End the answer as a build that succeeded does, unless it has said that it failed."""
        await self.write(b"0\r\n\r\n")


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
        way: how a client reaches it, if it does not choose: ``hijack``, or ``build`` when it has no ``/grpc``.
        cancelled: heads of the requests to ``/build/cancel``.
        pings: answers ``/_ping`` while true; silent otherwise.
        links: the connections to the Control API, in order.
        workers: whether the Control API answers.
    """

    def __init__(self, address: str, way: str) -> None:
        self.address = address
        self.way = way
        self.cancelled: list[bytes] = []
        self.pings = True
        self.links: list[ControlPeer] = []
        self.workers = True
        self._sockets: list[socket.socket] = []
        self._sessions = anyio.create_memory_object_stream[Http](math.inf)
        self._builds = anyio.create_memory_object_stream["Post | Solve"](math.inf)
        self._solves: list[Solve] = []

    @property
    def link(self) -> ControlPeer | None:
        """The newest connection to the Control API; the first only found out what there is."""
        return self.links[-1] if self.links else None

    @property
    def cancellations(self) -> int:
        """How many builds the client has cancelled."""
        return len(self.cancelled) + sum(solve.cancelled for solve in self._solves)

    async def asked_session(self) -> Http:
        """Wait for a request to ``/session`` and return its connection, unanswered."""
        return await self._sessions[1].receive()

    async def asked_build(self) -> Post | Solve:
        """Wait for a build and return it, unanswered."""
        return await self._builds[1].receive()

    async def session(self) -> SessionPeer:
        """Wait for a session and take it up."""
        return await self.take_up(await self.asked_session())

    async def take_up(self, http: Http) -> SessionPeer:
        """Answer 101 and begin HTTP/2."""
        await http.write(SWITCHING)
        peer = SessionPeer(http.sock)
        self._tasks.start_soon(_quietly, peer.run)
        peer.h2.initiate_connection()
        await peer.flush()
        await peer.ping()
        return peer

    async def build(self) -> Post | Solve:
        """Wait for a build and begin to tell of it."""
        asked = await self.asked_build()
        await asked.begin()
        return asked

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
        for stream in (*self._sessions, *self._builds):
            stream.close()

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
            await self._take_link(sock)
        elif path.endswith(b"/build"):
            self._builds[0].send_nowait(Post(sock, head))
        else:
            self._sessions[0].send_nowait(Http(sock, head))

    async def _take_link(self, sock: socket.socket) -> None:
        if self.way == "build":
            await asyncio.get_running_loop().sock_sendall(sock, NOT_FOUND)
            return
        await asyncio.get_running_loop().sock_sendall(sock, SWITCHING)
        self.links.append(peer := ControlPeer(sock))
        peer.answers = self.workers
        self._tasks.start_soon(_quietly, peer.run)
        await peer.serve(self._take_solve)

    def _take_solve(self, solve: Solve) -> None:
        self._solves.append(solve)
        self._builds[0].send_nowait(solve)


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
async def fake_engine(script: Script, *, way: str = "hijack", tcp: bool = False) -> AsyncIterator[FakeEngine]:
    """Run an Engine by a script until the block is left.

    Args:
        script: what it does.
        way: ``hijack``, or ``build`` for one without BuildKit's own API.
        tcp: listen on a TCP port in place of a socket in the file system.
    """
    with tempfile.TemporaryDirectory(prefix="bks-") as folder:
        path = Path(folder) / "engine.sock"
        with socket.socket(socket.AF_INET if tcp else socket.AF_UNIX) as listener:
            listener.bind(("127.0.0.1", 0) if tcp else str(path))
            listener.listen()
            listener.setblocking(False)
            address = f"tcp://127.0.0.1:{listener.getsockname()[1]}" if tcp else f"unix://{path}"
            engine = FakeEngine(address, way)
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
