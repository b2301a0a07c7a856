"""Where exports go: a directory on disk, one file or stream, or, of a listing, nowhere.

Source: moby/buildkit:session/filesync/filesync.go (syncTargetDiffCopy, writeTargetFile).
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from buildkit_session.errors import RemoteProtocolError, TransferError
from buildkit_session.fsutil.options import DEFAULT, ReceiveOptions
from buildkit_session.fsutil.pace import let_gather
from buildkit_session.fsutil.quota import UNLIMITED, Limits, Quota
from buildkit_session.fsutil.receiver import receive_listing, receive_tree
from buildkit_session.fsutil.wire import PACKETS
from buildkit_session.grpc.router import Codecs
from buildkit_session.services.exported import Exported
from buildkit_session.services.placement import PlacementMode, place
from buildkit_session.services.writers import AnyWriter, Feed, FileFeed, feed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from buildkit_session.fsutil.content import Piece
    from buildkit_session.fsutil.disk import Written
    from buildkit_session.fsutil.listing import ListedEntry
    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.messages.fsutil.types import Packet
    from buildkit_session.messages.moby.filesync.v1 import BytesMessage

__all__ = ["DirectoryTarget", "FeedTarget", "FileTarget", "ListingTarget", "StreamTarget"]

READER_POLL: Final = 0.1
"""Seconds between looks for the reader of a pipe."""

_PACKETS = Codecs(PACKETS, PACKETS)


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
        # A cancellation that ended the stream is on its way to this task too, and is no failure of the export.
        await checkpoint_if_cancelled()
        if self._failure is not None:
            raise self._failure
        return self._received > 0

    async def commit(self) -> Exported | None:
        """Do what is left when all streams were received; returns what the export has done, if there is more to say.

        Raises:
            TransferError: it could not be done.
        """
        return None

    async def abandon(self) -> None:
        """Take back what an export left behind that was not committed. Raises nothing."""


class DirectoryTarget(_Target):
    """Receives a tree into a directory, which is made if it is not there.

    Args:
        destination: resolved once, links included; everything else happens below it, or beside it for ``swap``.
        options: what is taken of the listing, and how.
        mode: what becomes of what is there; ``mirror`` and ``swap`` take effect with :meth:`commit`.

    Attributes:
        written: what each stream wrote.
    """

    codecs = _PACKETS

    def __init__(self, destination: Path, options: ReceiveOptions = DEFAULT, *, mode: PlacementMode = "merge") -> None:
        super().__init__()
        self.destination = destination
        self.written: list[Written] = []
        self._options = options
        self._quota = Quota(options.limits)
        self._placement = place(destination, mode, options)
        self._exported: Exported | None = None  # once committed

    async def receive(self, call: IncomingCall[Packet, Packet]) -> None:
        """See :class:`~buildkit_session.services.filesend.Target`."""
        with self._stream():
            root_fd = await to_thread.run_sync(self._placement.open)
            try:
                note = self._placement.note
                self.written.append(await receive_tree(call, root_fd, self._options, note, self._quota))
            finally:
                os.close(root_fd)

    async def commit(self) -> Exported:
        """See :meth:`_Target.commit`; a second call does nothing."""
        if self._exported is None:
            removed = await to_thread.run_sync(self._placement.commit)
            self._exported = Exported.of_streams(self.destination, self.written, removed)
        return self._exported

    async def abandon(self) -> None:
        """See :meth:`_Target.abandon`."""
        if self._exported is None:
            await to_thread.run_sync(self._placement.abandon)


class ListingTarget(_Target):
    """Receives the entries of a tree, without any content.

    Attributes:
        entries: in the order of the listing; with several streams one after the other.
    """

    codecs = _PACKETS

    def __init__(self, options: ReceiveOptions = DEFAULT) -> None:
        super().__init__()
        self.entries: list[ListedEntry] = []
        self._options = options

    async def receive(self, call: IncomingCall[Packet, Packet]) -> None:
        """See :class:`~buildkit_session.services.filesend.Target`."""
        with self._stream():
            self.entries += await receive_listing(call, self._options)

    async def commit(self) -> Exported:
        """See :meth:`_Target.commit`."""
        return Exported(None, entries=tuple(self.entries))


class _ByteTarget(_Target):
    """Receives the pieces of one file."""

    @property
    def codecs(self) -> Codecs:
        """See :class:`~buildkit_session.services.filesend.Target`."""
        # Here, as an export to a directory does without these messages.
        from buildkit_session.services.pieces import CODECS  # noqa: PLC0415

        return CODECS


class StreamTarget(_ByteTarget):
    """Receives one file into a writer, ordinary or asynchronous, which stays the caller's and is not closed.

    Args:
        writer: gets the bytes.
        limits: how many of them it gets at most; entries of an archive are not counted.
    """

    def __init__(self, writer: AnyWriter, limits: Limits = UNLIMITED) -> None:
        super().__init__()
        self._feed = feed_of(writer)
        self._quota = Quota(limits)

    async def receive(self, call: IncomingCall[BytesMessage, Any]) -> None:
        """See :class:`~buildkit_session.services.filesend.Target`."""
        with self._stream():
            await _copy(call, self._feed, self._quota)


class FeedTarget(_ByteTarget):
    """Receives one file into what is opened when the file begins, and closed when its stream has ended in any way.

    Args:
        open_feed: gives the feed; what the block does after a ``flush`` is done when the file is complete.
        limits: as for :class:`StreamTarget`.
    """

    def __init__(self, open_feed: Callable[[], AbstractAsyncContextManager[Feed]], limits: Limits = UNLIMITED) -> None:
        super().__init__()
        self._open_feed = open_feed
        self._quota = Quota(limits)

    async def receive(self, call: IncomingCall[BytesMessage, Any]) -> None:
        """See :class:`~buildkit_session.services.filesend.Target`."""
        with self._stream():
            async with self._open_feed() as feed:
                await _copy(call, feed, self._quota)


class FileTarget(_ByteTarget):
    """Receives one file to a path: complete or not at all. It is written aside and renamed when its end was seen.

    Args:
        destination: a link is followed; a device or a pipe is written to directly.
        limits: as for :class:`StreamTarget`.
    """

    def __init__(self, destination: Path, limits: Limits = UNLIMITED) -> None:
        super().__init__()
        self.destination = destination
        self._quota = Quota(limits)

    async def receive(self, call: IncomingCall[BytesMessage, Any]) -> None:
        """See :class:`~buildkit_session.services.filesend.Target`."""
        with self._stream():
            try:
                if await to_thread.run_sync(_is_special, self.destination):
                    await self._receive_directly(call)
                else:
                    await self._receive_aside(call)
            except OSError as error:
                raise TransferError(f"cannot write {self.destination}: {error.strerror or error}") from error

    async def _receive_directly(self, call: IncomingCall[BytesMessage, Any]) -> None:
        with await _open_special(self.destination) as file:
            await _copy(call, FileFeed(file), self._quota)

    async def _receive_aside(self, call: IncomingCall[BytesMessage, Any]) -> None:
        final = await to_thread.run_sync(_resolved, self.destination)
        aside = final.with_name(f".tmp.{secrets.token_hex(8)}")
        try:
            with await to_thread.run_sync(_create, aside, final) as file:
                await _copy(call, FileFeed(file), self._quota)
            await to_thread.run_sync(os.replace, aside, final)
        finally:
            with suppress(OSError):
                aside.unlink()


async def _copy(call: IncomingCall[BytesMessage, Any], feed: Feed, quota: Quota) -> None:
    """Write all messages; returns only when the sender has said that this was the end."""
    while batch := await call.recv_many():
        pieces = [_piece(message) for message in batch]
        size = sum(map(len, pieces))
        quota.take_bytes(size)
        await feed.write(pieces)
        await let_gather(size)
    # Before the status goes out, so that a full disk still fails the build.
    await feed.flush()


def _piece(message: BytesMessage) -> Piece:
    if message._unknown_fields:
        # A packet reads as an empty message with a field more; it must not make an empty file.
        raise RemoteProtocolError("a message that is no piece of a file arrived for a file")
    return message.data


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


async def _open_special(path: Path) -> FileIO:
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
            return FileIO(descriptor, "wb")


def _create(aside: Path, final: Path) -> FileIO:
    """Create a new file, with the permissions of the one it will replace."""
    final.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with suppress(OSError):
        os.fchmod(descriptor, stat.S_IMODE(final.stat().st_mode) & 0o777)
    return FileIO(descriptor, "wb")
