"""An ssh agent behind a socket, as ``SSH_AUTH_SOCK`` names it."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.services.agent_protocol import Frames, framed
from buildkit_session.services.unix_socket import connected

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator

__all__ = ["AgentSocket"]

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer: that of a large agent lists thousands of keys."""

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
