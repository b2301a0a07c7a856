"""Where exports go: a directory on disk, or one file or stream.

Source: moby/buildkit:session/filesync/filesync.go (syncTargetDiffCopy, writeTargetFile).
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

import anyio
from anyio import to_thread

from buildkit_session.errors import RemoteProtocolError, TransferError
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

READER_POLL: Final = 0.1
"""Seconds between looks for the reader of a pipe."""

_PACKETS = Codecs(MessageCodec(Packet), MessageCodec(Packet))
_BYTES = Codecs(MessageCodec(BytesMessage), MessageCodec(BytesMessage))


class _Target:
    """Keeps count of the streams, so that the end of a build can wait for the end of its exports."""

    def __init__(self) -> None:
        self._running = 0
        self._received = 0
        self._failure: Exception | None = None  # of the first stream that failed
        self._idle = anyio.Event()

    @contextmanager
    def _stream(self) -> Iterator[None]:
        self._running += 1
        try:
            yield
            self._received += 1
        except Exception as error:
            self._failure = self._failure or error
            raise
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
                self._idle = anyio.Event()

    async def finished(self) -> bool:
        """Wait until no stream runs; returns whether any was received whole.

        Raises:
            Exception: what made a stream fail, even if others did not.
        """
        while self._running:
            await self._idle.wait()
        if self._failure is not None:
            raise self._failure
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
            # Private, as upstream: the files of an image are made for its users, not for those of this machine.
            self.destination.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TransferError(f"cannot write into {self.destination}: {error.strerror}") from error


class Writer(Protocol):
    """What takes the bytes of a file; called in a thread."""

    def write(self, data: bytes, /) -> object:
        """Take ``data``; one that returns a number, as unbuffered files do, has taken so many bytes only."""


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
            try:
                if await to_thread.run_sync(_is_special, self.destination):
                    await self._receive_directly(call)
                else:
                    await self._receive_aside(call)
            except OSError as error:
                raise TransferError(f"cannot write {self.destination}: {error.strerror or error}") from error

    async def _receive_directly(self, call: Call[BytesMessage, Any]) -> None:
        with await _open_special(self.destination) as stream:
            await _copy(call, stream)

    async def _receive_aside(self, call: Call[BytesMessage, Any]) -> None:
        final = await to_thread.run_sync(_resolved, self.destination)
        aside = final.with_name(f".tmp.{secrets.token_hex(8)}")
        try:
            with await to_thread.run_sync(_create, aside, final) as stream:
                await _copy(call, stream)
            await to_thread.run_sync(os.replace, aside, final)
        finally:
            with suppress(OSError):
                aside.unlink()


async def _copy(call: Call[BytesMessage, Any], writer: Writer) -> None:
    """Write all messages; returns only when the sender has said that this was the end."""
    while batch := await call.recv_many():
        await to_thread.run_sync(_write, writer, batch)
    # Before the status goes out, so that a full disk still fails the build.
    await to_thread.run_sync(_flush, writer)


def _write(writer: Writer, batch: list[BytesMessage]) -> None:
    for message in batch:
        if message._unknown_fields:
            # A packet reads as an empty message with a field more; it must not make an empty file.
            raise RemoteProtocolError("a message that is no piece of a file arrived for a file")
        with _translated():
            _write_all(writer, message.data)


def _write_all(writer: Writer, data: bytes) -> None:
    view = data
    while view:
        taken = writer.write(view)
        view = view[taken:] if isinstance(taken, int) else b""


def _flush(writer: Writer) -> None:
    if (flush := getattr(writer, "flush", None)) is not None:
        with _translated():
            flush()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TransferError(f"cannot write the exported file: {error.strerror or error}") from error
    except Exception as error:  # a caller's writer may raise anything
        raise TransferError(f"cannot write the exported file: {type(error).__name__}: {error}") from error


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


async def _open_special(path: Path) -> BinaryIO:
    """Open a device or a pipe for writing. A pipe without a reader is waited for in a way that can be cancelled."""
    while True:
        try:
            descriptor = await to_thread.run_sync(os.open, path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            await anyio.sleep(READER_POLL)
        else:
            os.set_blocking(descriptor, True)
            return os.fdopen(descriptor, "wb")


def _create(aside: Path, final: Path) -> BinaryIO:
    """Create a new file, with the permissions of the one it will replace."""
    final.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with suppress(OSError):
        os.fchmod(descriptor, stat.S_IMODE(final.stat().st_mode) & 0o777)
    return os.fdopen(descriptor, "wb")
