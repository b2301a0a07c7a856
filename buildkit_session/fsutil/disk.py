"""Writes entries below one directory, and nowhere else, whatever is listed and whatever is there already.

Every path is walked from an open descriptor of the destination, one component at a time, following no link. No existing
entry is ever opened for writing: contents go to a new file, readable by its owner only, which takes its place by
rename when it is complete. What stands in the way is replaced, links included, and their targets stay as they are.
Existing directories are kept and merged into.

Hard links are made last, when their sources are complete; then directories get their modes and times, deepest first,
so that read-only directories can be filled.

Set-user-id, set-group-id and sticky bits of files, ownership and extended attributes are not applied, and devices are
refused: the listing comes from a daemon that is not trusted, and the caller may be root.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.modes import to_posix
from buildkit_session.fsutil.validate import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["DirectoryWriter", "Written"]

OPEN_DIRECTORIES: Final = 64
OPEN_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_BITS: Final = 0o777
DIRECTORY_BITS: Final = 0o7777


@dataclass(slots=True)
class Written:
    """What an export wrote: counts of entries, and bytes of content.

    ``dropped_bits`` counts files that were listed with set-user-id, set-group-id or sticky bits.
    """

    files: int = 0
    directories: int = 0
    links: int = 0
    content: int = 0
    dropped_bits: int = 0


class _OpenFile:
    """A file whose content is arriving."""

    __slots__ = ("descriptor", "size", "temporary")

    def __init__(self, descriptor: int, temporary: bytes) -> None:
        self.descriptor = descriptor
        self.temporary = temporary
        self.size = 0


class DirectoryWriter:
    """Writes a listing into a directory. Synchronous; every method may raise :class:`TransferError`.

    Args:
        root_fd: an open directory; stays the caller's.
    """

    def __init__(self, root_fd: int) -> None:
        self.written = Written()
        self._root_fd = root_fd
        self._prefix = b".tmp." + secrets.token_hex(8).encode()
        self._counter = count()
        # Descriptors of directories by path, the most recently used last.
        self._open_directories: OrderedDict[bytes, int] = OrderedDict()
        self._open_files: dict[bytes, _OpenFile] = {}
        self._directories: list[tuple[bytes, int, int]] = []  # path, mode, mtime
        self._hard_links: list[tuple[bytes, bytes]] = []  # path, path of the source

    # -- entries ------------------------------------------------------------------------------------------------

    def add(self, entry: Stat) -> None:
        """Create an entry that has no content of its own: anything but a regular file with one name."""
        mode = to_posix(entry.mode)
        try:
            match stat.S_IFMT(mode):
                case stat.S_IFDIR:
                    self._add_directory(entry.path, mode & DIRECTORY_BITS, entry.mod_time)
                case stat.S_IFLNK:
                    self._add_symlink(entry)
                case stat.S_IFREG:
                    self._hard_links.append((entry.path, entry.linkname))
                case stat.S_IFIFO:
                    self._add_fifo(entry, mode)
                case _:
                    text = f"{shown(entry.path)} is a device; device nodes are not created"
                    raise TransferError(text, path=entry.path)
        except OSError as error:
            raise _failed("create", entry.path, error) from error

    def _add_directory(self, path: bytes, mode: int, mtime: int) -> None:
        parent, name = self._locate(path)
        self._directories.append((path, mode, mtime))
        self.written.directories += 1
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.lstat(name, dir_fd=parent).st_mode
            if not stat.S_ISDIR(found):
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o700, dir_fd=parent)
            elif found & 0o700 != 0o700:
                # Its listed mode follows at the end; until then it must be possible to write into it.
                os.fchmod(self._directory(path), stat.S_IMODE(found) | 0o700)

    def _add_symlink(self, entry: Stat) -> None:
        if not entry.linkname or b"\0" in entry.linkname:
            raise TransferError(f"{shown(entry.path)} is a symbolic link without a usable target", path=entry.path)

        def create(name: bytes, parent: int) -> None:
            os.symlink(entry.linkname, name, dir_fd=parent)
            _set_times(name, entry.mod_time, parent)

        self._replace(entry.path, create)
        self.written.links += 1

    def _add_fifo(self, entry: Stat, mode: int) -> None:
        def create(name: bytes, parent: int) -> None:
            os.mkfifo(name, 0o600, dir_fd=parent)
            # The name is new and random, so nobody has put a link in its place.
            os.chmod(name, mode & FILE_BITS, dir_fd=parent)
            _set_times(name, entry.mod_time, parent)

        self._replace(entry.path, create)
        self.written.files += 1

    # -- content ------------------------------------------------------------------------------------------------

    def write(self, path: bytes, data: bytes) -> None:
        """Append content to a file that is not complete yet."""
        try:
            file = self._open_files.get(path) or self._create(path)
            view = memoryview(data)
            while view:
                view = view[os.write(file.descriptor, view) :]
            file.size += len(data)
        except OSError as error:
            raise _failed("write", path, error) from error

    def complete(self, entry: Stat) -> None:
        """Give a file its mode and time and put it in its place; it may have had no content."""
        try:
            file = self._open_files.get(entry.path) or self._create(entry.path)
            if file.size != entry.size:
                text = f"{shown(entry.path)} was listed with {entry.size} bytes, {file.size} arrived"
                raise TransferError(text, path=entry.path)
            mode = stat.S_IMODE(to_posix(entry.mode))
            os.fchmod(file.descriptor, mode & FILE_BITS)
            os.utime(file.descriptor, ns=_clamped(entry.mod_time))
            os.close(file.descriptor)
            del self._open_files[entry.path]
            self._put(file.temporary, entry.path)
        except OSError as error:
            raise _failed("write", entry.path, error) from error
        self.written.files += 1
        self.written.content += file.size
        self.written.dropped_bits += mode & ~FILE_BITS != 0

    def _create(self, path: bytes) -> _OpenFile:
        parent, _ = self._locate(path)
        temporary = self._temporary_name()
        file = _OpenFile(os.open(temporary, CREATE_FLAGS, 0o600, dir_fd=parent), temporary)
        self._open_files[path] = file
        return file

    # -- the end ------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Make the hard links, then apply the modes and times of directories."""
        for path, source in self._hard_links:
            try:
                self._link(path, source)
            except OSError as error:
                raise _failed("link", path, error) from error
        for path, mode, mtime in reversed(self._directories):
            try:
                descriptor = self._directory(path)
                os.fchmod(descriptor, mode)
                os.utime(descriptor, ns=_clamped(mtime))
            except OSError as error:
                raise _failed("set the mode and time of", path, error) from error

    def _link(self, path: bytes, source: bytes) -> None:
        def create(name: bytes, parent: int) -> None:
            source_parent, source_name = self._locate(source)
            os.link(source_name, name, src_dir_fd=source_parent, dst_dir_fd=parent, follow_symlinks=False)

        self._replace(path, create)
        self.written.files += 1

    def close(self) -> None:
        """Remove what is not complete and release every descriptor. Complete entries stay. Raises nothing."""
        for path, file in self._open_files.items():
            with suppress(OSError):
                os.close(file.descriptor)
            with suppress(OSError, TransferError):
                os.unlink(file.temporary, dir_fd=self._locate(path)[0])
        self._open_files.clear()
        for descriptor in self._open_directories.values():
            os.close(descriptor)
        self._open_directories.clear()

    # -- names --------------------------------------------------------------------------------------------------

    def _replace(self, path: bytes, create: Callable[[bytes, int], None]) -> None:
        """Create an entry under its name or, where that is taken, aside, and rename it over."""
        parent, name = self._locate(path)
        try:
            create(name, parent)
        except FileExistsError:
            temporary = self._temporary_name()
            create(temporary, parent)
            self._put(temporary, path)

    def _put(self, temporary: bytes, path: bytes) -> None:
        """Rename a complete entry to its name, removing a directory that stands there."""
        parent, name = self._locate(path)
        try:
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise
            self._forget_directories(path)
            shutil.rmtree(name, dir_fd=parent)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        # Renaming one name of a file over another name of it does nothing (POSIX), so the first may still be there.
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)

    def _temporary_name(self) -> bytes:
        return b"%s.%d" % (self._prefix, next(self._counter))

    def _locate(self, path: bytes) -> tuple[int, bytes]:
        parent, _, name = path.rpartition(b"/")
        return self._directory(parent), name

    def _directory(self, path: bytes) -> int:
        """A descriptor of a directory below the root; stays this object's."""
        if not path:
            return self._root_fd
        if (descriptor := self._open_directories.get(path)) is not None:
            self._open_directories.move_to_end(path)
            return descriptor
        descriptor = self._walk_to(path)
        self._open_directories[path] = descriptor
        if len(self._open_directories) > OPEN_DIRECTORIES:
            os.close(self._open_directories.popitem(last=False)[1])
        return descriptor

    def _walk_to(self, path: bytes) -> int:
        """Open a directory from its nearest open ancestor, following no link; not by recursion, trees can be deep."""
        ancestor = path
        while ancestor and ancestor not in self._open_directories:
            ancestor = ancestor.rpartition(b"/")[0]
        start = self._open_directories[ancestor] if ancestor else self._root_fd
        descriptor = start
        for name in path[len(ancestor) :].lstrip(b"/").split(b"/"):
            following = os.open(name, OPEN_FLAGS, dir_fd=descriptor)
            if descriptor != start:
                os.close(descriptor)
            descriptor = following
        return descriptor

    def _forget_directories(self, path: bytes) -> None:
        """Close what is open of a tree that is about to be removed."""
        for opened in [p for p in self._open_directories if p == path or p.startswith(path + b"/")]:
            os.close(self._open_directories.pop(opened))


def _failed(verb: str, path: bytes, error: OSError) -> TransferError:
    return TransferError(f"cannot {verb} {shown(path)}: {error.strerror or error}", path=path)


def _set_times(name: bytes, mtime: int, parent: int) -> None:
    os.utime(name, ns=_clamped(mtime), dir_fd=parent, follow_symlinks=False)


def _clamped(mtime: int) -> tuple[int, int]:
    """Access and modification time; any int64 is accepted, file systems clamp further by themselves."""
    return mtime, mtime
