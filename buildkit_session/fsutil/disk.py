"""Writes entries below one directory, and nowhere else, whatever is listed and whatever is there already.

Every path is walked from an open descriptor of the destination, one component at a time, following no link. No existing
entry is ever opened for writing: contents go to a new file, readable by its owner only, which takes its place by
rename when it is complete. What stands in the way is replaced, links included, and their targets stay as they are.
Existing directories are kept and merged into.

Hard links are made last, when their sources are complete; then directories get their modes and times, deepest first,
so that read-only directories can be filled.

What else an entry gets is for the policy to say. By default set-user-id, set-group-id and sticky bits of files,
ownership and extended attributes are not applied, and devices are refused: the listing comes from a daemon that is not
trusted, and the caller may be root.
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
from buildkit_session.fsutil.backlog import Backlog, Row
from buildkit_session.fsutil.content import write_all
from buildkit_session.fsutil.directories import Directories
from buildkit_session.fsutil.metadata import set_node_metadata, set_open_metadata
from buildkit_session.fsutil.modes import to_posix
from buildkit_session.fsutil.policy import SAFE, Policy
from buildkit_session.fsutil.unchanged import Unchanged
from buildkit_session.fsutil.validate import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buildkit_session.fsutil.backlog import FileEntry
    from buildkit_session.fsutil.content import Piece
    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["DirectoryWriter", "Written"]

CREATE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_OPEN_FILES: Final = 64
"""Files whose content has begun and not ended. A daemon reads four at a time."""

MAX_MAJOR: Final = 0xFFF
MAX_MINOR: Final = 0xFFFFF


@dataclass(slots=True)
class Written:
    """What an export wrote: counts of entries, and bytes of content.

    Attributes:
        files: files, under each of their names, pipes and devices.
        directories: directories, those that were there before too.
        links: symbolic links.
        content: bytes written to files.
        unchanged: files that were there as listed, and were not written.
        dropped_bits: files that were listed with set-user-id, set-group-id or sticky bits, and have none.
        dropped_xattrs: entries that were listed with extended attributes, and have none of those.
    """

    files: int = 0
    directories: int = 0
    links: int = 0
    content: int = 0
    unchanged: int = 0
    dropped_bits: int = 0
    dropped_xattrs: int = 0


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
        policy: what of the entries' metadata is applied.
        incremental: whether files that are there as listed are left alone.
    """

    def __init__(self, root_fd: int, policy: Policy = SAFE, *, incremental: bool = False) -> None:
        self.written = Written()
        self._policy = policy
        self._directories = Directories(root_fd)
        self._unchanged = Unchanged(self._directories, policy) if incremental else None
        # Unguessable, so that no entry of a listing can meet a temporary file, not even one of another stream.
        self._prefix = b".tmp." + secrets.token_hex(8).encode()
        self._counter = count()
        self._open_files: dict[bytes, _OpenFile] = {}
        self._unfinished = Backlog()  # directories
        self._hard_links: list[tuple[bytes, bytes]] = []  # path, path of the source

    # -- entries ------------------------------------------------------------------------------------------------

    def wants(self, entry: Stat) -> bool:
        """Tell whether the content of a plain file is needed; if not, the file is done."""
        try:
            if self._unchanged is None or not self._unchanged.holds(entry):
                return True
        except OSError as error:
            raise _failed("look at", entry.path, error) from error
        self.written.unchanged += 1
        return False

    def add(self, entry: Stat) -> None:
        """Create an entry that has no content of its own: anything but a regular file with one name."""
        mode = to_posix(entry.mode)
        try:
            match stat.S_IFMT(mode):
                case stat.S_IFDIR:
                    self._add_directory(entry)
                case stat.S_IFLNK:
                    self._add_symlink(entry)
                case stat.S_IFREG:
                    self._hard_links.append((entry.path, entry.linkname))
                case stat.S_IFIFO:
                    self._add_node(entry, lambda name, parent: os.mkfifo(name, 0o600, dir_fd=parent))
                case stat.S_IFBLK | stat.S_IFCHR if self._policy.upstream:
                    self._add_device(entry, stat.S_IFMT(mode))
                case _:
                    raise _refused(entry, mode)
        except OSError as error:
            raise _failed("create", entry.path, error) from error

    def _add_directory(self, entry: Stat) -> None:
        parent, name = self._directories.locate(entry.path)
        self._unfinished.append(Row.of(0, entry))
        self.written.directories += 1
        self.written.dropped_xattrs += self._policy.drops_xattrs(entry)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.lstat(name, dir_fd=parent).st_mode
            if not stat.S_ISDIR(found):
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o700, dir_fd=parent)
            elif found & 0o700 != 0o700:
                # Its listed mode follows at the end; until then it must be possible to write into it.
                os.fchmod(self._directories.descriptor(entry.path), stat.S_IMODE(found) | 0o700)

    def _add_symlink(self, entry: Stat) -> None:
        if not entry.linkname or b"\0" in entry.linkname:
            raise TransferError(f"{shown(entry.path)} is a symbolic link without a usable target", path=entry.path)

        def create(name: bytes, parent: int) -> None:
            os.symlink(entry.linkname, name, dir_fd=parent)
            set_node_metadata(name, entry, self._policy, dir_fd=parent)

        self._replace(entry.path, create)
        self.written.links += 1
        self.written.dropped_xattrs += self._policy.drops_xattrs(entry)

    def _add_device(self, entry: Stat, kind: int) -> None:
        if not (0 <= entry.devmajor <= MAX_MAJOR and 0 <= entry.devminor <= MAX_MINOR):
            text = f"{shown(entry.path)} is device {entry.devmajor}:{entry.devminor}, which cannot be"
            raise TransferError(text, path=entry.path)
        device = os.makedev(entry.devmajor, entry.devminor)
        try:
            self._add_node(entry, lambda name, parent: os.mknod(name, kind | 0o600, device, dir_fd=parent))
        except PermissionError as error:
            text = f"cannot create {shown(entry.path)}: making devices takes privileges; exclude it, or run as root"
            raise TransferError(text, path=entry.path) from error

    def _add_node(self, entry: Stat, make: Callable[[bytes, int], None]) -> None:
        def create(name: bytes, parent: int) -> None:
            make(name, parent)
            set_node_metadata(name, entry, self._policy, dir_fd=parent)

        self._replace(entry.path, create)
        self._count_file(entry)

    def _count_file(self, entry: FileEntry) -> None:
        written = self.written
        written.files += 1
        written.dropped_bits += self._policy.drops_bits(to_posix(entry.mode))
        written.dropped_xattrs += self._policy.drops_xattrs(entry)

    # -- content ------------------------------------------------------------------------------------------------

    def write(self, entry: FileEntry, /, *pieces: Piece) -> None:
        """Append content to a file that is not complete yet."""
        try:
            _append(self._open_files.get(entry.path) or self._create(entry.path), entry, pieces)
        except OSError as error:
            raise _failed("write", entry.path, error) from error

    def complete(self, entry: FileEntry, /, *pieces: Piece) -> None:
        """Append the last content, if any, give the file its mode and time, and put it in its place."""
        try:
            file = self._open_files.get(entry.path) or self._create(entry.path)
            _append(file, entry, pieces)
            if file.size != entry.size:
                raise _wrong_size(entry, file.size)
            del self._open_files[entry.path]
            try:
                _seal(file.descriptor, entry, self._policy)
                self._put(file.temporary, entry.path)
            except BaseException:
                self._discard(file.temporary, entry.path)
                raise
        except OSError as error:
            raise _failed("write", entry.path, error) from error
        self._count_file(entry)
        self.written.content += file.size

    def _create(self, path: bytes) -> _OpenFile:
        if len(self._open_files) == MAX_OPEN_FILES:
            raise TransferError(f"the daemon sends content of more than {MAX_OPEN_FILES} files at a time", path=path)
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
        while self._unfinished:
            entry = self._unfinished.pop()
            try:
                set_open_metadata(self._directories.descriptor(entry.path), entry, self._policy)
            except OSError as error:
                raise _failed("set the mode and time of", entry.path, error) from error

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


def _append(file: _OpenFile, entry: FileEntry, pieces: Sequence[Piece]) -> None:
    file.size += sum(map(len, pieces))
    if file.size > entry.size:  # now, as what never ends would fill the disk
        raise _wrong_size(entry, file.size)
    write_all(file.descriptor, pieces)


def _seal(descriptor: int, entry: FileEntry, policy: Policy) -> None:
    """Apply the metadata, and close in any case: an error of closing is one of writing."""
    try:
        set_open_metadata(descriptor, entry, policy)
    finally:
        os.close(descriptor)


def _refused(entry: Stat, mode: int) -> TransferError:
    if stat.S_ISSOCK(mode):
        text = "is a socket, which cannot be exported"
    else:
        text = "is a device, which is not created by default; permissions=upstream creates it, exclude leaves it out"
    return TransferError(f"{shown(entry.path)} {text}", path=entry.path)


def _failed(verb: str, path: bytes, error: OSError) -> TransferError:
    return TransferError(f"cannot {verb} {shown(path)}: {error.strerror or error}", path=path)


def _wrong_size(entry: FileEntry, arrived: int) -> TransferError:
    text = f"{shown(entry.path)} was listed with {entry.size} bytes, {arrived} arrived"
    return TransferError(text, path=entry.path)
