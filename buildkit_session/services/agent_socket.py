"""An ssh agent behind a socket, as ``SSH_AUTH_SOCK`` names it."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import anyio

from buildkit_session.errors import InputError, RemoteProtocolError
from buildkit_session.services.agent_protocol import Frames, framed

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator

__all__ = ["AgentSocket", "connected"]

PATIENCE: Final = 2.0
"""Seconds that an agent may take to accept a connection, as upstream has it. Its answers may take long: it may ask."""

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer: that of a large agent lists thousands of keys."""

POLL: Final = 0.01
"""Seconds between attempts to connect."""

CHUNK: Final = 64 * 1024


class AgentSocket:
    """An :class:`~buildkit_session.services.ssh.Agent` behind a unix socket.

    Args:
        path: of the socket.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def __repr__(self) -> str:
        return f"<AgentSocket {self._path}>"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[_Conversation]:
        """See :class:`~buildkit_session.services.ssh.Agent`. Each conversation is a connection of its own."""
        async with connected(self._path, "ssh agent") as (reader, writer):
            yield _Conversation(reader, writer)


@asynccontextmanager
async def connected(path: str, what: str) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Have a connection to a socket, which ends with the block.

    Args:
        path: of the socket.
        what: listens there, for people.

    Raises:
        InputError: (on entering) nobody answers.
    """
    try:
        with anyio.fail_after(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(sock=await _open(path))
    except (OSError, ValueError) as error:  # TimeoutError among them; a path may be none
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"the {what} at {path} does not answer: {reason}; is it running?") from error
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _open(path: str) -> socket.socket:
    """Connect to an agent, also to one that has more connections waiting than it takes.

    The event loop would wait for such a socket to become writable, and take it for connected then.
    """
    connecting = socket.socket(socket.AF_UNIX)
    try:
        connecting.setblocking(False)
        while True:
            try:
                connecting.connect(path)
            except BlockingIOError:
                await anyio.sleep(POLL)
            else:
                return connecting
    except BaseException:
        connecting.close()
        raise


class _Conversation:
    # Not a stream of anyio's: one whose receive is cancelled just when data arrives makes the event loop complain.
    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = Frames(MAX_ANSWER)

    async def ask(self, request: bytes) -> bytes | None:
        try:
            self._writer.write(framed(request))
            await self._writer.drain()
            while data := await self._reader.read(CHUNK):
                for answer in self._frames.feed(data):
                    return answer
        except (OSError, RemoteProtocolError):  # one that breaks the protocol is of no more use than one that has gone
            pass
        return None

    async def ended(self) -> None:
        with suppress(OSError):
            # Bytes that come unasked break the protocol too.
            await self._reader.read(1)
