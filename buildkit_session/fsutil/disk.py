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

import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.directories import Directories
from buildkit_session.fsutil.modes import to_posix
from buildkit_session.fsutil.validate import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["DirectoryWriter", "Written"]

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
        self._directories = Directories(root_fd)
        # Unguessable, so that no entry of a listing can meet a temporary file, not even one of another stream.
        self._prefix = b".tmp." + secrets.token_hex(8).encode()
        self._counter = count()
        self._open_files: dict[bytes, _OpenFile] = {}
        self._unfinished: list[tuple[bytes, int, int]] = []  # directories: path, mode, mtime
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
                    self._add_fifo(entry, mode & FILE_BITS)
                case _:
                    text = f"{shown(entry.path)} is a device or a socket; such nodes are not created"
                    raise TransferError(text, path=entry.path)
        except OSError as error:
            raise _failed("create", entry.path, error) from error

    def _add_directory(self, path: bytes, mode: int, mtime: int) -> None:
        parent, name = self._directories.locate(path)
        self._unfinished.append((path, mode, mtime))
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
                os.fchmod(self._directories.descriptor(path), stat.S_IMODE(found) | 0o700)

    def _add_symlink(self, entry: Stat) -> None:
        if not entry.linkname or b"\0" in entry.linkname:
            raise TransferError(f"{shown(entry.path)} is a symbolic link without a usable target", path=entry.path)

        def create(name: bytes, parent: int) -> None:
            os.symlink(entry.linkname, name, dir_fd=parent)
            os.utime(name, ns=(entry.mod_time, entry.mod_time), dir_fd=parent, follow_symlinks=False)

        self._replace(entry.path, create)
        self.written.links += 1

    def _add_fifo(self, entry: Stat, mode: int) -> None:
        def create(name: bytes, parent: int) -> None:
            os.mkfifo(name, 0o600, dir_fd=parent)
            # This follows links, but nobody can put one under a name that nobody knows.
            os.chmod(name, mode, dir_fd=parent)
            os.utime(name, ns=(entry.mod_time, entry.mod_time), dir_fd=parent, follow_symlinks=False)

        self._replace(entry.path, create)
        self.written.files += 1

    # -- content ------------------------------------------------------------------------------------------------

    def write(self, entry: Stat, data: bytes) -> None:
        """Append content to a file that is not complete yet."""
        try:
            file = self._open_files.get(entry.path) or self._create(entry.path)
            file.size += len(data)
            if file.size > entry.size:  # now, as what never ends would fill the disk
                raise _wrong_size(entry, file.size)
            view = memoryview(data)
            while view:
                view = view[os.write(file.descriptor, view) :]
        except OSError as error:
            raise _failed("write", entry.path, error) from error

    def complete(self, entry: Stat) -> None:
        """Give a file its mode and time and put it in its place; it may have had no content."""
        mode = stat.S_IMODE(to_posix(entry.mode))
        try:
            file = self._open_files.get(entry.path) or self._create(entry.path)
            if file.size != entry.size:
                raise _wrong_size(entry, file.size)
            del self._open_files[entry.path]
            try:
                _seal(file.descriptor, mode & FILE_BITS, entry.mod_time)
                self._put(file.temporary, entry.path)
            except BaseException:
                self._discard(file.temporary, entry.path)
                raise
        except OSError as error:
            raise _failed("write", entry.path, error) from error
        self.written.files += 1
        self.written.content += file.size
        self.written.dropped_bits += mode & ~FILE_BITS != 0

    def _create(self, path: bytes) -> _OpenFile:
        parent, _ = self._directories.locate(path)
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
        for path, mode, mtime in reversed(self._unfinished):
            try:
                descriptor = self._directories.descriptor(path)
                os.fchmod(descriptor, mode)
                os.utime(descriptor, ns=(mtime, mtime))
            except OSError as error:
                raise _failed("set the mode and time of", path, error) from error

    def _link(self, path: bytes, source: bytes) -> None:
        def create(name: bytes, parent: int) -> None:
            source_parent, source_name = self._directories.locate(source)
            os.link(source_name, name, src_dir_fd=source_parent, dst_dir_fd=parent, follow_symlinks=False)

        self._replace(path, create)
        self.written.files += 1

    def close(self) -> None:
        """Remove what is not complete and release every descriptor. Complete entries stay. Raises nothing."""
        unfinished, self._open_files = self._open_files, {}
        # All descriptors first: where they had run out, reaching the files again needs some.
        self._directories.close()
        for file in unfinished.values():
            with suppress(OSError):
                os.close(file.descriptor)
        for path, file in unfinished.items():
            self._discard(file.temporary, path)
        self._directories.close()

    # -- names --------------------------------------------------------------------------------------------------

    def _replace(self, path: bytes, create: Callable[[bytes, int], None]) -> None:
        """Create an entry aside and rename it to its name."""
        parent, _ = self._directories.locate(path)
        temporary = self._temporary_name()
        try:
            create(temporary, parent)
            self._put(temporary, path)
        finally:
            # After success as well: renaming one name of a file to another name of it does nothing (POSIX).
            self._discard(temporary, path)

    def _put(self, temporary: bytes, path: bytes) -> None:
        """Rename a complete entry to its name, removing a directory that stands there."""
        parent, name = self._directories.locate(path)
        try:
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except IsADirectoryError:
            self._directories.remove_tree(path)
            parent, name = self._directories.locate(path)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)

    def _discard(self, temporary: bytes, path: bytes) -> None:
        """Remove the temporary entry beside ``path``, if it is there."""
        with suppress(OSError):
            os.unlink(temporary, dir_fd=self._directories.locate(path)[0])

    def _temporary_name(self) -> bytes:
        return b"%s.%d" % (self._prefix, next(self._counter))


def _seal(descriptor: int, mode: int, mtime: int) -> None:
    """Apply mode and time, and close in any case: an error of closing is one of writing."""
    try:
        os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=(mtime, mtime))
    finally:
        os.close(descriptor)


def _failed(verb: str, path: bytes, error: OSError) -> TransferError:
    return TransferError(f"cannot {verb} {shown(path)}: {error.strerror or error}", path=path)


def _wrong_size(entry: Stat, arrived: int) -> TransferError:
    text = f"{shown(entry.path)} was listed with {entry.size} bytes, {arrived} arrived"
    return TransferError(text, path=entry.path)
