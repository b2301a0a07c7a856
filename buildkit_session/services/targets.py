"""Where exports go: a directory on disk, or one file or stream.

Source: moby/buildkit:session/filesync/filesync.go (syncTargetDiffCopy, writeTargetFile).
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import anyio
from anyio import to_thread

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.receiver import receive_tree
from buildkit_session.grpc.codec import MessageCodec
from buildkit_session.grpc.router import Codecs
from buildkit_session.messages.fsutil.types import Packet
from buildkit_session.messages.moby.filesync.v1 import BytesMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.fsutil.disk import Written
    from buildkit_session.grpc.call import Call

__all__ = ["DirectoryTarget", "FileTarget", "StreamTarget"]

_PACKETS = Codecs(MessageCodec(Packet), MessageCodec(Packet))
_BYTES = Codecs(MessageCodec(BytesMessage), MessageCodec(BytesMessage))


class _Target:
    """Keeps count of the streams, so that the end of a build can wait for the end of its exports."""

    def __init__(self) -> None:
        self._running = 0
        self._received = 0
        self._idle = anyio.Event()

    @contextmanager
    def _stream(self) -> Iterator[None]:
        self._running += 1
        try:
            yield
            self._received += 1
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
                self._idle = anyio.Event()

    async def finished(self) -> bool:
        """Wait until no stream runs; returns whether any was received whole."""
        while self._running:
            await self._idle.wait()
        return self._received > 0


class DirectoryTarget(_Target):
    """Receives a tree into a directory, which is made if it is not there.

    Args:
        destination: resolved once, links included; everything else happens below it.

    Attributes:
        written: what each stream wrote.
    """

    codecs = _PACKETS

    def __init__(self, destination: Path) -> None:
        super().__init__()
        self.destination = destination
        self.written: list[Written] = []

    async def receive(self, call: Call[Packet, Packet]) -> None:
        """See :class:`~buildkit_session.services.filesend.Target`."""
        with self._stream():
            root_fd = await to_thread.run_sync(self._open)
            try:
                self.written.append(await receive_tree(call, root_fd))
            finally:
                os.close(root_fd)

    def _open(self) -> int:
        try:
            self.destination.mkdir(parents=True, exist_ok=True)
            return os.open(self.destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TransferError(f"cannot write into {self.destination}: {error.strerror}") from error


class Writer(Protocol):
    """What takes the bytes of a file; called in a thread."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""


class StreamTarget(_Target):
    """Receives one file into an open binary stream, which stays the caller's and is not closed."""

    codecs = _BYTES

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer

    async def receive(self, call: Call[BytesMessage, Any]) -> None:
        """See :class:`~buildkit_session.services.filesend.Target`."""
        with self._stream():
            await _copy(call, self._writer)


class FileTarget(_Target):
    """Receives one file to a path: complete or not at all. It is written aside and renamed when its end was seen.

    Args:
        destination: a link is followed; a device or a pipe is written to directly.
    """

    codecs = _BYTES

    def __init__(self, destination: Path) -> None:
        super().__init__()
        self.destination = destination

    async def receive(self, call: Call[BytesMessage, Any]) -> None:
        """See :class:`~buildkit_session.services.filesend.Target`."""
        with self._stream():
            final = await to_thread.run_sync(_resolved, self.destination)
            direct = await to_thread.run_sync(_is_special, final)
            path = final if direct else final.with_name(f".{final.name[:200]}.{secrets.token_hex(6)}.tmp")
            try:
                with await to_thread.run_sync(_open_new, path, direct) as stream:
                    await _copy(call, stream)
                if not direct:
                    await to_thread.run_sync(os.replace, path, final)
            except OSError as error:
                raise TransferError(f"cannot write {self.destination}: {error.strerror}") from error
            finally:
                if not direct:
                    with suppress(FileNotFoundError):
                        path.unlink()


async def _copy(call: Call[BytesMessage, Any], writer: Writer) -> None:
    """Write all messages; returns only when the sender has said that this was the end."""

    def write(batch: list[BytesMessage]) -> None:
        for message in batch:
            writer.write(message.data)

    try:
        while batch := await call.recv_many():
            await to_thread.run_sync(write, batch)
        # Before the status goes out, so that a full disk still fails the build.
        if (flush := getattr(writer, "flush", None)) is not None:
            await to_thread.run_sync(flush)
    except OSError as error:
        raise TransferError(f"cannot write the exported file: {error.strerror or error}") from error


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _open_new(path: Path, direct: bool) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CLOEXEC if direct else os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "wb")
