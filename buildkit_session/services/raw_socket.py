"""A socket whose bytes are forwarded as they are: for steps that speak something else than the agent's protocol.

Source: moby/buildkit:session/sshforward/sshprovider/agentprovider.go (Raw), session/sshforward/copy.go.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from buildkit_session.errors import InputError
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.unix_socket import connected
from buildkit_session.supervision import supervised

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

    from buildkit_session.grpc.incoming_call import IncomingCall

__all__ = ["MAX_PIECE", "RawSocket"]

MAX_PIECE: Final = 32 * 1024
"""Bytes of a message, as everybody sends them."""


class RawSocket:
    """A unix socket that steps speak to directly. Nothing of what they say is filtered.

    Args:
        path: of the socket.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def __repr__(self) -> str:
        return f"<RawSocket {self._path}>"

    async def check(self) -> None:
        """Raise InputError if there is no socket. It is not connected to: a server may count its callers."""
        try:
            found = await to_thread.run_sync(os.stat, self._path)
        except (OSError, ValueError) as error:
            raise InputError(f"the socket at {self._path} is not there any more") from error
        if not stat.S_ISSOCK(found.st_mode):
            raise InputError(f"{self._path} is not a socket any more")

    async def forward(self, call: IncomingCall[BytesMessage, BytesMessage]) -> None:
        """Copy both ways until the server has said its last.

        A step that ends its half ends that of the connection, and still gets what comes back.

        Raises:
            InputError: nobody answers.
        """
        async with connected(self._path, "socket") as (reader, writer), supervised() as copying:
            copying.start_soon(_up, call, writer)
            await _down(reader, call)
            copying.cancel_scope.cancel()


async def _up(call: IncomingCall[BytesMessage, BytesMessage], writer: StreamWriter) -> None:
    with suppress(OSError):  # a server that reads no more may have something to say yet
        while batch := await call.recv_many():
            for message in batch:
                writer.write(message.data)
                await writer.drain()
        writer.write_eof()


async def _down(reader: StreamReader, call: IncomingCall[BytesMessage, BytesMessage]) -> None:
    while data := await _read(reader):
        await call.send(BytesMessage(data=data))


async def _read(reader: StreamReader) -> bytes:
    try:
        return await reader.read(MAX_PIECE)
    except OSError:
        return b""
