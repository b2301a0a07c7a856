"""A gRPC server as a script: what it answers is written frame by frame, legal or not.

The counterpart of ``scripted_peer``. A real ``h2`` server reads what the connection under test sends; what is answered
does not go through it, so that a test can say anything. It reads in a task of its own while it is not told to stop.
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
from scripted_peer import PATIENCE

from buildkit_session.http2.client_connection import ClientConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from buildkit_session.http2.events import Headers

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8

OK: Headers = [(b":status", b"200"), (b"content-type", b"application/grpc")]
DONE: Headers = [(b"grpc-status", b"0")]


# -- frames as bytes ----------------------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def block(fields: Headers) -> bytes:
    """A header block that leaves the dynamic table alone (RFC 7541, section 6.2.2)."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


def _string(text: bytes) -> bytes:
    """Source: RFC 7541, sections 5.1 and 5.2; never Huffman-encoded."""
    rest = len(text) - 127
    if rest < 0:
        return bytes((len(text),)) + text
    length = b"\x7f"
    while rest >= 128:
        length += bytes((rest & 127 | 128,))
        rest >>= 7
    return length + bytes((rest,)) + text


def headers(stream_id: int, fields: Headers, *, end: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream_id, block(fields))


def long_headers(stream_id: int, fields: Headers, *, size: int = 16384) -> bytes:
    """Trailers in frames of at most ``size`` bytes."""
    payload = block(fields)
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
    kinds = [HEADERS] + [CONTINUATION] * (len(pieces) - 1)
    flags = [END_STREAM] + [0] * (len(pieces) - 1)
    flags[-1] |= END_HEADERS
    return b"".join(frame(kind, flag, stream_id, piece) for kind, flag, piece in zip(kinds, flags, pieces, strict=True))


def data(stream_id: int, payload: bytes, *, end: bool = False) -> bytes:
    """In frames of the largest size that is allowed without asking."""
    pieces = [payload[start : start + 16384] for start in range(0, len(payload), 16384)] or [b""]
    frames = [frame(DATA, 0, stream_id, piece) for piece in pieces[:-1]]
    return b"".join([*frames, frame(DATA, END_STREAM if end else 0, stream_id, pieces[-1])])


def message(stream_id: int, body: bytes) -> bytes:
    return data(stream_id, b"\0" + len(body).to_bytes(4, "big") + body)


def reset(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def announcement(values: dict[h2.settings.SettingCodes, int] | None = None) -> bytes:
    pairs = (values or {}).items()
    return frame(SETTINGS, 0, 0, b"".join(code.to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in pairs))


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def window(increment: int, stream_id: int = 0) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def answer(stream_id: int, *bodies: bytes, trailers: Headers = DONE) -> bytes:
    """A whole and good answer."""
    pieces = [message(stream_id, body) for body in bodies]
    return b"".join([headers(stream_id, OK), *pieces, headers(stream_id, trailers, end=True)])


# -- the server ---------------------------------------------------------------------------------------------------


def h2_server() -> h2.connection.H2Connection:
    """Reads what a client sends, any number of streams, and shows fields as they came."""
    config = h2.config.H2Configuration(
        client_side=False, header_encoding=None, validate_inbound_headers=False, normalize_inbound_headers=False
    )
    server = h2.connection.H2Connection(config)
    server.local_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 1 << 20
    server.local_settings.acknowledge()
    server.decoder.max_header_list_size = 1 << 24
    return server


@dataclass
class Asked:
    """What one stream has received."""

    headers: Headers = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None


class ScriptedServer:
    """The server's end. ``connection`` is the other, which is under test."""

    def __init__(self, sock: socket.socket, connection: ClientConnection) -> None:
        self.connection = connection
        self.h2 = h2_server()
        self.streams: dict[int, Asked] = {}
        self.goaways: list[h2.events.ConnectionTerminated] = []
        self.pings = 0  # that were received
        self.pongs: list[bytes] = []
        self.closed = False
        self.returns_credit = True
        self._socket = sock
        self._reading = asyncio.Event()
        self._reading.set()
        self._news = asyncio.Event()
        self._marks = 0

    async def write(self, *frames: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, b"".join(frames))

    async def ping(self) -> None:
        """Wait until the other side has taken all that was sent before, and what it answered to that has arrived."""
        self._marks += 1
        mark = self._marks.to_bytes(8, "big")
        await self.write(frame(PING, 0, 0, mark))
        await self.until(lambda: mark in self.pongs)

    async def asked(self, stream_id: int) -> Asked:
        """Wait for a request's headers."""
        await self.until(lambda: stream_id in self.streams)
        return self.streams[stream_id]

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE):
            while not condition():
                assert not self.closed, f"the connection ended first: {self.goaways}"
                self._news.clear()
                await self._news.wait()

    async def until_closed(self) -> None:
        with anyio.fail_after(PATIENCE):
            while not self.closed:
                self._news.clear()
                await self._news.wait()

    def stop_reading(self) -> None:
        self._reading.clear()

    def hang_up(self) -> None:
        """Send nothing more."""
        self._socket.shutdown(socket.SHUT_WR)

    async def run(self) -> None:
        """Read until the end; the one task that does."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._reading.wait()
                received = await loop.sock_recv(self._socket, 65536)
                if not received:
                    return
                for event in self.h2.receive_data(received):
                    self._note(event)
                await self.write(self.h2.data_to_send())
                self._news.set()
        except ConnectionError:
            pass
        finally:
            self.closed = True
            self._news.set()

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                fields = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
                self.streams[event.stream_id or 0] = Asked(fields)
            case h2.events.DataReceived():
                self.streams[event.stream_id or 0].data += event.data or b""
                if self.returns_credit:
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            case h2.events.StreamEnded():
                self.streams[event.stream_id or 0].ended = True
            case h2.events.StreamReset():
                self.streams[event.stream_id or 0].reset = int(event.error_code or 0)
            case h2.events.ConnectionTerminated():
                self.goaways.append(event)
            case h2.events.PingReceived():
                self.pings += 1
            case h2.events.PingAckReceived():
                self.pongs.append(event.ping_data or b"")
            case _:
                pass  # credit and settings, mostly


@asynccontextmanager
async def scripted(
    announced: dict[h2.settings.SettingCodes, int] | None = None, *, buffer: int | None = None
) -> AsyncIterator[ScriptedServer]:
    """A client's connection to a script; ``buffer`` bounds what the sockets hold, in bytes."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    _, connection = await asyncio.get_running_loop().create_connection(ClientConnection, sock=ours)
    server = ScriptedServer(theirs, connection)
    server.h2.initiate_connection()
    server.h2.clear_outbound_data_buffer()
    with theirs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run)
            await server.write(announcement(announced))
            await server.ping()
            try:
                yield server
            finally:
                connection.close()
                connection.abort()
                await connection.closed.wait()
                tasks.cancel_scope.cancel()
