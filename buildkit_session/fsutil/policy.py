"""What of an entry's metadata is taken over from a listing; decided here, applied by ``metadata``.

Source: tonistiigi/fsutil:diskwriter.go, diskwriter_unix.go (rewriteMetadata), for what ``upstream`` stands for.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from buildkit_session.fsutil.backlog import FileEntry

__all__ = ["SAFE", "Policy"]

PERMISSIONS: Final = 0o777
SPECIAL_BITS: Final = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
ALL_BITS: Final = PERMISSIONS | SPECIAL_BITS


class Policy(NamedTuple):
    """How far a listing is trusted, and who owns what it makes.

    The default is safe for a caller who is root: no program gets set-user-id bits or capabilities from the daemon.

    Attributes:
        upstream: do all that buildx does: special bits of files, extended attributes, devices, and ownership by this
            process's own ids, whatever the file system would choose.
        umask: permission bits (0 to 0o777) that files and directories do not get.
        owner: user and group id of everything; ``None`` leaves them as they come.
    """

    upstream: bool = False
    umask: int = 0
    owner: tuple[int, int] | None = None

    def mode(self, st_mode: int) -> int:
        """The permissions of an entry that was listed with ``st_mode``."""
        bits = st_mode & ~self.umask
        return bits & (PERMISSIONS if self.drops_bits(st_mode) else ALL_BITS)

    def drops_bits(self, st_mode: int) -> bool:
        """Whether the entry was listed with bits that it does not get. On directories they harm nobody."""
        return bool(st_mode & SPECIAL_BITS) and not self.upstream and not stat.S_ISDIR(st_mode)

    def drops_xattrs(self, entry: FileEntry) -> bool:
        """Whether the entry was listed with extended attributes that it does not get."""
        return not self.upstream and bool(entry.xattrs)

    def ids(self) -> tuple[int, int] | None:
        """User and group to set, or ``None`` for those a new entry has anyway."""
        if self.owner is not None:
            return self.owner
        # A directory with the set-group-id bit would give its own group.
        return (os.getuid(), os.getgid()) if self.upstream else None


SAFE: Final = Policy()
