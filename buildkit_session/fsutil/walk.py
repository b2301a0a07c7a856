"""Listing a tree in the order of the protocol.

Owns the traversal: depth first, siblings by the bytes of their names, a directory before what is in it. What is kept is
decided by :mod:`buildkit_session.fsutil.filter`.

The walk goes from directory descriptor to directory descriptor and follows no link. It uses a bounded number of
descriptors and no recursion, however deep the tree. The tree may change meanwhile: what vanishes is left out, alone.

Source: tonistiigi/fsutil:fs.go (Walk), filter.go (filterFS.Walk), stat.go (mkstat), hardlinks.go.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from buildkit_session.fsutil.beneath import FileOpener, is_gone, open_directory, open_file, read_link, transfer_error
from buildkit_session.fsutil.filter import Filter
from buildkit_session.fsutil.modes import GoMode, from_posix
from buildkit_session.fsutil.xattrs import read_xattrs
from buildkit_session.messages.fsutil.types import Stat

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from buildkit_session.errors import TransferError
    from buildkit_session.fsutil.filter import Selection, Verdict

__all__ = ["FileOpener", "Filter", "Observer", "open_file", "walk"]

OPEN_DIRECTORIES: Final = 32
"""Descriptors a walk holds at most, whatever the depth; two more for a moment when it changes directories."""

_EVERYTHING: Final = Filter()

_ENCODING: Final = sys.getfilesystemencoding()
_ENCODING_ERRORS: Final = sys.getfilesystemencodeerrors()

_DEVICE: Final = GoMode.DEVICE.value
_SOCKET: Final = GoMode.SOCKET.value


class Observer(Protocol):
    """Sees more of a walk than what it yields. Called in the thread that takes the items."""

    def judged(self, path: bytes, verdict: Verdict, *, parent: Verdict, directory: int) -> None:
        """See the verdict on ``path``, an entry of the open ``directory`` that ``parent`` is the verdict on.

        Called for every entry that the walk comes to, kept or not, before anything else is done with it.
        """

    def unreadable(self, error: TransferError) -> None:
        """Take the error that the walk would have ended with; it goes on without the entry."""


def walk(
    root_fd: int, filtered: Filter = _EVERYTHING, *, observer: Observer | None = None
) -> Generator[Stat, None, None]:
    """List the tree at ``root_fd``, filtered, in the order of the protocol.

    Each kept entry is yielded once, as BuildKit wants it from a client: owned by 0:0, mode and times exact, the second
    and later names of a file with the first as ``linkname``, sockets as empty regular files. A directory that is not
    kept itself is yielded right before the first kept entry below it. The root is not yielded.

    Nothing happens before the first item is taken, and everything blocks: take items in a thread. Closing the generator
    early gives the descriptors back.

    Args:
        root_fd: an open directory; stays the caller's.
        filtered: what is kept.
        observer: told of what is left out, and of what cannot be read.

    Raises:
        InputError: a pattern is malformed.
        TransferError: an entry that is kept, or a directory in which something may be kept, cannot be read; not with an
            observer, which is told instead.
    """
    walker = _Walker(filtered.resolve(root_fd), observer)
    try:
        walker.enter_root(root_fd)
        yield from walker.entries()
    finally:
        walker.close()


@dataclass(eq=False, slots=True)
class _Directory:
    """One directory on the way from the root to the current place."""

    path: bytes
    # What the paths of its entries begin with.
    prefix: bytes
    # None while the directory is too far up to keep it open.
    descriptor: int | None
    identity: tuple[int, int]
    names: Iterator[bytes]
    verdict: Verdict
    # What to yield before the first kept entry below; None once it was yielded.
    unsent: Stat | None


class _Walker:
    def __init__(self, selection: Selection, observer: Observer | None) -> None:
        self._selection = selection
        self._observer = observer
        self._stack: list[_Directory] = []
        # The first path yielded for each file with several names.
        self._first_names: dict[tuple[int, int], bytes] = {}

    def enter_root(self, root_fd: int) -> None:
        # Opened anew: a duplicate would share its reading position with every other walk of this root.
        own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)
        self._push(own, b"", self._selection.root, unsent=None)

    def entries(self) -> Iterator[Stat]:
        while self._stack:
            directory = self._stack[-1]
            name = next(directory.names, None)
            if name is None:
                self._leave()
            else:
                yield from self._visit(directory, name)

    def close(self) -> None:
        while self._stack:
            self._close(self._stack.pop())

    def _visit(self, directory: _Directory, name: bytes) -> list[Stat]:
        """Look at one entry and return what is to be yielded for it; a directory is entered."""
        verdict = directory.verdict
        if not self._selection.keeps_everything:
            verdict = self._selection.judge(verdict, name.decode("utf-8", "surrogateescape"))
        path = directory.prefix + name
        descriptor = _opened(directory)
        if self._observer is not None:
            self._observer.judged(path, verdict, parent=directory.verdict, directory=descriptor)
        if not verdict.kept and self._selection.keeps_nothing_below(verdict):
            return []
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                return self._enter(descriptor, name, path, verdict)
            return self._emit(self._describe(descriptor, name, path, status)) if verdict.kept else []
        except OSError as error:
            if is_gone(error) or (not verdict.kept and isinstance(error, PermissionError)):
                return []
            failure = transfer_error("read", path, error.strerror)
            if self._observer is None:
                raise failure from error
            self._observer.unreadable(failure)
            return []

    def _enter(self, parent: int, name: bytes, path: bytes, verdict: Verdict) -> list[Stat]:
        descriptor = open_directory(name, dir_fd=parent, to_list=True)
        entry = _stat_message(path, os.fstat(descriptor), xattrs=read_xattrs(name, dir_fd=parent))
        self._push(descriptor, path, verdict, unsent=entry)
        return self._unsent() if verdict.kept else []

    def _push(self, descriptor: int, path: bytes, verdict: Verdict, *, unsent: Stat | None) -> None:
        """Make an open directory the current one; takes over the descriptor."""
        try:
            status = os.fstat(descriptor)
            # os.listdir() gives str for a descriptor; their bytes, as os.fsencode() would give them, decide the order.
            names = sorted([name.encode(_ENCODING, _ENCODING_ERRORS) for name in os.listdir(descriptor)])
        except BaseException:
            os.close(descriptor)
            raise
        identity = (status.st_dev, status.st_ino)
        self._stack.append(_Directory(path, path and path + b"/", descriptor, identity, iter(names), verdict, unsent))
        if len(self._stack) > OPEN_DIRECTORIES:
            self._close(self._stack[-1 - OPEN_DIRECTORIES])

    def _leave(self) -> None:
        """Go back to the parent directory, by way of ``..`` if it had to be closed."""
        left = self._stack.pop()
        try:
            if self._stack and self._stack[-1].descriptor is None:
                _reopen(self._stack[-1], _opened(left))
        finally:
            self._close(left)

    def _emit(self, entry: Stat) -> list[Stat]:
        return [entry] if self._stack[-1].unsent is None else [*self._unsent(), entry]

    def _unsent(self) -> list[Stat]:
        """Return the directories from the root to here that were not yielded yet; now they are."""
        entries = []
        for directory in reversed(self._stack):
            if directory.unsent is None:
                break
            entries.append(directory.unsent)
            directory.unsent = None
        return entries[::-1]

    def _describe(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> Stat:
        linkname = b""
        if stat.S_ISLNK(status.st_mode):
            linkname = read_link(name, dir_fd=directory)
        elif status.st_nlink > 1:
            first = self._first_names.setdefault((status.st_dev, status.st_ino), path)
            linkname = b"" if first == path else first
        return _stat_message(path, status, linkname=linkname, xattrs=read_xattrs(name, dir_fd=directory))

    @staticmethod
    def _close(directory: _Directory) -> None:
        if directory.descriptor is not None:
            os.close(directory.descriptor)
            directory.descriptor = None


def _opened(directory: _Directory) -> int:
    if directory.descriptor is None:
        raise AssertionError("the current directory of a walk is always open")
    return directory.descriptor


def _reopen(directory: _Directory, child: int) -> None:
    try:
        descriptor = open_directory(b"..", dir_fd=child, to_list=True)
    except OSError as error:
        raise transfer_error("read", directory.path, error.strerror) from error
    directory.descriptor = descriptor
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) != directory.identity:
        # Where the parent leads now may be outside of the tree.
        raise transfer_error("read", directory.path, "a directory in it was moved away while it was read")


def _stat_message(path: bytes, status: os.stat_result, *, linkname: bytes = b"", xattrs: dict[str, bytes]) -> Stat:
    st_mode, mode = status.st_mode, from_posix(status.st_mode)
    return Stat(  # by position, as names cost as much as all the rest
        path,
        # As upstream, which knows no sockets: what remains is a regular file.
        mode & ~_SOCKET,
        0,  # uid
        0,  # gid
        status.st_size if stat.S_ISREG(st_mode) or stat.S_ISLNK(st_mode) else 0,
        status.st_mtime_ns,
        linkname,
        os.major(status.st_rdev) if mode & _DEVICE else 0,
        os.minor(status.st_rdev) if mode & _DEVICE else 0,
        xattrs,
    )
