"""Ends of ssh agents, for tests of both sides: a socket in front of the service, and keys of OpenSSH's making."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from buildkit_session.messages.moby.filesync.v1 import BytesMessage

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from buildkit_session.services.ssh import Ssh


@asynccontextmanager
async def listening(
    path: Path, converse: Callable[[StreamReader, StreamWriter], Awaitable[None]]
) -> AsyncIterator[None]:
    """A server that is done with all its connections in the end."""
    running = 0
    idle = anyio.Event()

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal running
        running += 1
        try:
            await converse(reader, writer)
        except OSError:  # the other end was quicker
            pass
        finally:
            writer.transport.abort()
            running -= 1
            idle.set()

    async with await asyncio.start_unix_server(handle, path, backlog=5):
        yield
        with anyio.fail_after(60):
            while running:
                idle = anyio.Event()
                await idle.wait()


class SocketCall:
    """A call whose other end is a program of this machine, in place of a step."""

    metadata: dict[str, str] = {}  # noqa: RUF012 - nobody writes to it

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def recv_many(self) -> list[BytesMessage]:
        data = await self._reader.read(1000)
        return [BytesMessage(data=data)] if data else []

    async def send(self, message: BytesMessage) -> None:
        self._writer.write(message.data)
        await self._writer.drain()


@asynccontextmanager
async def offered(service: Ssh, path: Path) -> AsyncIterator[None]:
    """Put the default agent of a service behind a socket, for programs of OpenSSH."""
    (handler,) = [route.handler for route in service.routes() if route.path.endswith("ForwardAgent")]

    async def converse(reader: StreamReader, writer: StreamWriter) -> None:
        call: Any = SocketCall(reader, writer)
        await handler(call)

    async with listening(path, converse):
        yield


def make_key(path: Path, kind: str, passphrase: str = "", *options: str) -> str:
    """Make a key; returns the public half, without the comment."""
    size = ["-b", "2048"] if kind == "rsa" and "-b" not in options else []
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", "test", "-f", str(path), *options]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])
