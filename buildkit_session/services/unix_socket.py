"""Connections to sockets of this machine."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator

__all__ = ["connected"]

PATIENCE: Final = 2.0
"""Seconds that a server may take to accept a connection, as upstream has it. Its answers may take long."""

POLL: Final = 0.01
"""Seconds between attempts to connect."""


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
    """Connect to a server, also to one that has more connections waiting than it takes.

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
