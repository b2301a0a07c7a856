"""A gRPC client as a script: a real ``h2`` client connection on the other end of a socket pair.

Used by the tests of ``http2`` and ``grpc``. The peer reads in a task of its own while ``reading`` is set, so that a
test can make it stop reading; what it received is kept per stream.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import h2.config
import h2.connection
import h2.events
import h2.settings

from buildkit_session.grpc.interception import InterceptingServer
from buildkit_session.grpc.server import Server
from buildkit_session.http2.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from anyio.abc import TaskGroup, TaskStatus

    from buildkit_session.grpc.interception import Interceptor
    from buildkit_session.grpc.router import Router
    from buildkit_session.http2.connection import Stream
    from buildkit_session.http2.core import Core
    from buildkit_session.http2.events import Headers

PATIENCE = 30  # seconds after which a test that hangs fails


def h2_client() -> h2.connection.H2Connection:
    """A client connection that lets malformed requests out."""
    config = h2.config.H2Configuration(
        client_side=True,
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=True,
    )
    client = h2.connection.H2Connection(config)
    client.local_settings.enable_push = 0
    client.decoder.max_header_list_size = 1 << 20
    return client


def request(path: bytes = b"/test.Test/Call", *extra: tuple[bytes, bytes]) -> Headers:
    """The fields of a gRPC request."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *extra,
    ]


def grpc_message(body: bytes) -> bytes:
    return b"\0" + len(body).to_bytes(4, "big") + body


@dataclass
class Answer:
    """What one stream has received."""

    headers: Headers = field(default_factory=list)
    trailers: Headers = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> bytes | None:
        return dict(self.headers + self.trailers).get(b"grpc-status")

    @property
    def message(self) -> bytes:
        return dict(self.headers + self.trailers).get(b"grpc-message", b"")

    @property
    def bodies(self) -> list[bytes]:
        """The length-prefixed messages, which must be whole."""
        bodies, rest = [], bytes(self.data)
        while rest:
            length = int.from_bytes(rest[1:5], "big")
            assert rest[0] == 0
            assert len(rest) >= 5 + length
            bodies.append(rest[5 : 5 + length])
            rest = rest[5 + length :]
        return bodies


class Peer:
    """The client's end. Every method that sends also writes."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.h2 = h2_client()
        self.connection = connection  # the served end, which is under test
        self.answers: dict[int, Answer] = {}
        self.events: list[h2.events.Event] = []
        self.pongs: list[bytes] = []
        self.goaways: list[h2.events.ConnectionTerminated] = []
        self.closed = False
        self.returns_credit = True
        self.cancel_calls: Callable[[], None]  # what the owner of the served calls does in the end
        self._socket = sock
        self._reading = asyncio.Event()
        self._reading.set()
        self._news = asyncio.Event()  # something was received or sent
        self._writing = anyio.Lock()
        self._pings = 0

    # -- sending --

    async def write(self, data: bytes) -> None:
        """Write raw bytes."""
        async with self._writing:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def flush(self) -> None:
        """Write what the h2 client has queued."""
        if data := self.h2.data_to_send():
            await self.write(data)
        self._news.set()

    async def open(self, headers: Headers | None = None, *, end: bool = False) -> int:
        """Open a stream; returns its number."""
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, headers if headers is not None else request(), end_stream=end)
        self.answers[stream_id] = Answer()
        await self.flush()
        return stream_id

    async def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send payload as the windows allow."""
        view = memoryview(data)
        while view:
            window = self.h2.local_flow_control_window(stream_id)
            size = min(len(view), window, self.h2.max_outbound_frame_size)
            if size <= 0:
                await self.until(lambda: self.h2.local_flow_control_window(stream_id) > 0)
                continue
            self.h2.send_data(stream_id, bytes(view[:size]))
            view = view[size:]
            await self.flush()
        if end:
            self.h2.end_stream(stream_id)
            await self.flush()

    async def reset(self, stream_id: int, code: int = 8) -> None:
        self.h2.reset_stream(stream_id, code)
        await self.flush()

    async def settings(self, values: dict[h2.settings.SettingCodes | int, int]) -> None:
        """Change our settings and wait until the other side has taken them."""
        self.h2.update_settings(values)
        await self.ping()

    async def call(self, path: bytes, *bodies: bytes, extra: Headers | None = None) -> Answer:
        """Make a whole call and wait for its end."""
        stream_id = await self.open(request(path, *(extra or [])))
        await self.send(stream_id, b"".join(map(grpc_message, bodies)), end=True)
        return await self.answer(stream_id)

    def shut(self) -> None:
        """Say that nothing more will be sent, as a peer does that has gone."""
        self._socket.shutdown(socket.SHUT_WR)

    # -- receiving --

    def stop_reading(self) -> None:
        self._reading.clear()

    def start_reading(self) -> None:
        self._reading.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until received bytes make ``condition`` true."""
        with anyio.fail_after(PATIENCE):
            while not condition():
                assert not self.closed, f"the connection ended first: {self.goaways}"
                self._news.clear()
                await self._news.wait()

    async def answer(self, stream_id: int) -> Answer:
        """Wait for the end of a stream."""
        answer = self.answers[stream_id]
        await self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    async def until_closed(self) -> None:
        with anyio.fail_after(PATIENCE):
            while not self.closed:
                self._news.clear()
                await self._news.wait()

    async def ping(self) -> None:
        """Wait until the other side has taken all that was sent before, and all it had answered has arrived."""
        self._pings += 1
        mark = self._pings.to_bytes(8, "big")
        self.h2.ping(mark)
        await self.flush()
        await self.until(lambda: mark in self.pongs)

    async def run(self) -> None:
        """Read until the end; the one task that does."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._reading.wait()
                data = await loop.sock_recv(self._socket, 65536)
                if not data:
                    return
                for event in self.h2.receive_data(data):
                    self._note(event)
                await self.flush()
                self._news.set()
        except ConnectionError:
            pass
        finally:
            self.closed = True
            self._news.set()

    def _note(self, event: h2.events.Event) -> None:
        self.events.append(event)
        match event:
            case h2.events.ConnectionTerminated():
                self.goaways.append(event)
                return
            case h2.events.PingAckReceived():
                self.pongs.append(event.ping_data or b"")
                return
            case _:
                pass
        stream_id = getattr(event, "stream_id", None)
        if not stream_id or stream_id not in self.answers:
            return
        answer = self.answers[stream_id]
        match event:
            case h2.events.ResponseReceived():
                answer.headers = [(bytes(n), bytes(v)) for n, v in event.headers or ()]
            case h2.events.TrailersReceived():
                answer.trailers = [(bytes(n), bytes(v)) for n, v in event.headers or ()]
            case h2.events.DataReceived():
                answer.data += event.data or b""
                if self.returns_credit:
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, stream_id)
            case h2.events.StreamEnded():
                answer.ended = True
            case h2.events.StreamReset():
                answer.reset = int(event.error_code or 0)
            case _:
                pass  # credit, mostly


@asynccontextmanager
async def connected(
    on_stream: Callable[[Stream], None], *, core: Core | None = None, buffer: int | None = None
) -> AsyncIterator[Peer]:
    """A served connection with a peer that has sent its preface; ``buffer`` bounds what the sockets hold, in bytes."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(on_stream, core=core), sock=ours)
    peer = Peer(theirs, connection)
    with theirs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer.run)
            peer.h2.initiate_connection()
            await peer.flush()
            try:
                yield peer
            finally:
                connection.close()
                connection.abort()
                await connection.closed.wait()
                tasks.cancel_scope.cancel()


@asynccontextmanager
async def serving(
    router: Router,
    *,
    core: Core | None = None,
    buffer: int | None = None,
    on_error: Callable[[str, Exception], None] | None = None,
    interceptors: Sequence[Interceptor] = (),
) -> AsyncIterator[Peer]:
    """A peer whose calls a router serves."""
    async with anyio.create_task_group() as tasks:
        calls: TaskGroup = await tasks.start(_own_calls)
        server = Server(router, calls, on_error=on_error)
        if interceptors:
            server = InterceptingServer(router, calls, interceptors=interceptors, session="abc", on_error=on_error)
        async with connected(server.accept, core=core, buffer=buffer) as peer:
            peer.cancel_calls = calls.cancel_scope.cancel
            await peer.ping()
            yield peer
        calls.cancel_scope.cancel()


async def _own_calls(*, task_status: TaskStatus[TaskGroup]) -> None:
    """A group of its own for the calls, so that a test can cancel them and live on."""
    async with anyio.create_task_group() as calls:
        task_status.started(calls)
        await anyio.sleep_forever()
