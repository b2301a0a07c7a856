"""A session inside a call: HTTP/2 in gRPC messages in HTTP/2.

Where there is no ``POST /session``, the bytes of the session's connection travel as messages of the bidirectional call
``Control/Session``, cut anywhere. This side of the call is the client, and inside of it the server.

Source: moby/buildkit:session/grpchijack/dial.go, hijack.go.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import anyio

from buildkit_session.errors import SessionError
from buildkit_session.messages.moby.filesync.v1 import BytesMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anyio.abc import TaskGroup, TaskStatus

    from buildkit_session.engine.control import Control
    from buildkit_session.grpc.outgoing_call import OutgoingCall
    from buildkit_session.http2.connection import Connection

__all__ = ["open_tunnel"]

HIGH_WATER: Final = 256 * 1024
"""Bytes waiting to be sent above which the connection inside is asked to pause."""

PIECE: Final = 1024 * 1024
"""Bytes of a message at most; the daemon takes up to 4 MiB."""


async def open_tunnel(
    control: Control,
    headers: Iterable[tuple[str, str]],
    make_connection: Callable[[], Connection],
    tasks: TaskGroup,
) -> Connection:
    """Register a session and return its connection, served through a call.

    Args:
        control: the daemon.
        headers: the session's header fields; they become metadata.
        make_connection: makes the protocol that serves the session.
        tasks: owns the tasks that move the bytes; they end with the connection, or when it is cancelled.

    Raises:
        RpcError, ConnectionClosed: the daemon did not take the call.
    """
    metadata = [(name.lower(), value) for name, value in headers]
    connection: Connection = await tasks.start(_carry, control, metadata, make_connection)
    return connection


async def _carry(
    control: Control,
    metadata: Iterable[tuple[str, str]],
    make_connection: Callable[[], Connection],
    *,
    task_status: TaskStatus[Connection],
) -> None:
    async with control.session(metadata) as call, anyio.create_task_group() as pumps:
        transport = _CallTransport(make_connection(), pumps)
        try:
            task_status.started(transport.connection)
            pumps.start_soon(transport.send_all, call)
            await transport.receive_all(call)
            pumps.cancel_scope.cancel()
        finally:
            transport.lost()


class _CallTransport(asyncio.Transport):
    """The transport that the connection inside writes to."""

    def __init__(self, connection: Connection, pumps: TaskGroup) -> None:
        super().__init__()
        self.connection = connection
        self._pumps = pumps
        self._waiting: list[bytes] = []
        self._size = 0
        self._filled = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._closing = False
        self._paused = False  # the connection was told to pause writing
        self._error: SessionError | None = None  # what ended the call, if anything did
        connection.connection_made(self)

    # -- asyncio.Transport, called by the connection --

    def is_closing(self) -> bool:
        """Whether nothing more is taken."""
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes; they are copied, for the caller may change what it lent."""
        if self._closing or not data:
            return
        self._waiting.append(bytes(data))
        self._size += len(data)
        self._filled.set()
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self.connection.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Queue several pieces."""
        self.write(b"".join(list_of_data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Keep the limits of this transport, which are those of the call below."""

    def pause_reading(self) -> None:
        """Leave what arrives in the call, whose window then closes."""
        self._readable.clear()

    def resume_reading(self) -> None:
        """Go on."""
        self._readable.set()

    def close(self) -> None:
        """Send what waits, then end the call."""
        self._closing = True
        self._filled.set()

    def abort(self) -> None:
        """End the call at once."""
        self._closing = True
        self._pumps.cancel_scope.cancel()

    # -- the tasks that move the bytes --

    async def send_all(self, call: OutgoingCall[BytesMessage, BytesMessage]) -> None:
        """Send what is written until the transport is closed, then say that it was."""
        try:
            while self._waiting or not self._closing:
                await self._send_waiting(call)
            call.end()
        except SessionError as error:
            self._error = self._error or error
            self._pumps.cancel_scope.cancel()

    async def _send_waiting(self, call: OutgoingCall[BytesMessage, BytesMessage]) -> None:
        if not self._waiting:
            self._filled.clear()
            await self._filled.wait()
            return
        waiting, self._waiting, self._size = b"".join(self._waiting), [], 0
        await call.send_many(BytesMessage(waiting[start : start + PIECE]) for start in range(0, len(waiting), PIECE))
        if self._paused and self._size <= HIGH_WATER // 2:
            self._paused = False
            self.connection.resume_writing()

    async def receive_all(self, call: OutgoingCall[BytesMessage, BytesMessage]) -> None:
        """Feed what arrives to the connection until the daemon ends the call, well or not."""
        try:
            while messages := await call.recv_many():
                await self._readable.wait()
                self.connection.feed(b"".join(message.data for message in messages))
        except SessionError as error:
            self._error = self._error or error

    def lost(self) -> None:
        """Tell the connection that the call is over."""
        self._closing = True
        self.connection.connection_lost(self._error)
