"""A listing that is only looked at: nothing is written, nothing is asked for."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from buildkit_session.fsutil.modes import to_posix

if TYPE_CHECKING:
    from buildkit_session.fsutil.backlog import FileEntry
    from buildkit_session.fsutil.content import Piece
    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["EntryKind", "ListedEntry", "Listing"]

EntryKind: TypeAlias = Literal["file", "directory", "symlink", "fifo", "socket", "block device", "character device"]

_KINDS: Final[dict[int, EntryKind]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}


@dataclass(frozen=True, slots=True)
class ListedEntry:
    """One entry of a result.

    Attributes:
        path: relative, ``/``-separated; bytes that are not UTF-8 are surrogates, as ``os.fsdecode`` makes them.
        kind: what it is.
        mode: permissions with set-user-id, set-group-id and sticky bits, as ``chmod`` takes them.
        size: bytes; 0 for all but files and links.
        mtime_ns: nanoseconds since the epoch.
        linkname: the target of a symbolic link; of a file, the path of the earlier entry it is a hard link to, or
            empty.
        uid: as in the image.
        gid: as in the image.
    """

    path: str
    kind: EntryKind
    mode: int
    size: int
    mtime_ns: int
    linkname: str
    uid: int
    gid: int


class Listing:
    """Keeps the entries of a transfer; see :class:`~buildkit_session.fsutil.receiver.Sink`."""

    def __init__(self) -> None:
        self.entries: list[ListedEntry] = []

    def wants(self, entry: Stat) -> bool:
        """Keep a file; its content is not wanted."""
        self.add(entry)
        return False

    def add(self, entry: Stat) -> None:
        """Keep an entry."""
        mode = to_posix(entry.mode)
        self.entries.append(
            ListedEntry(
                path=os.fsdecode(entry.path),
                kind=_KINDS[stat.S_IFMT(mode)],
                mode=stat.S_IMODE(mode),
                size=entry.size,
                mtime_ns=entry.mod_time,
                linkname=os.fsdecode(entry.linkname),
                uid=entry.uid,
                gid=entry.gid,
            )
        )

    def write(self, entry: FileEntry, /, *pieces: Piece) -> None:  # noqa: ARG002 - the signature of a sink
        """Never called, as nothing is wanted."""
        raise AssertionError("a listing wants no content")

    def complete(self, entry: FileEntry, /, *pieces: Piece) -> None:  # noqa: ARG002 - the signature of a sink
        """Never called, as nothing is wanted."""
        raise AssertionError("a listing wants no content")

    def finish(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is held."""
