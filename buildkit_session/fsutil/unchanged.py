"""Which listed files are on the disk already, so that their content need not be asked for.

As rsync: equal size, equal time (in nanoseconds) and equal permissions stand for equal content.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from buildkit_session.fsutil.modes import to_posix

if TYPE_CHECKING:
    from buildkit_session.fsutil.directories import Directories
    from buildkit_session.fsutil.policy import Policy
    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["Unchanged"]


class Unchanged:
    """Compares listed files with those on the disk.

    Args:
        directories: reach the destination; shared with who writes there.
        policy: decides what an entry would look like if it was written now.
    """

    def __init__(self, directories: Directories, policy: Policy) -> None:
        self._directories = directories
        self._policy = policy
        # Files with several names that stand for a listed one: two files of a listing must not become one.
        self._taken: set[tuple[int, int]] = set()

    def holds(self, entry: Stat) -> bool:
        """Tell whether the plain file ``entry`` is there as listed; may raise OSError. Ask once for each entry."""
        parent, name = self._directories.locate(entry.path)
        try:
            found = os.lstat(name, dir_fd=parent)
        except FileNotFoundError:
            return False
        return self._is_equal(found, entry) and self._is_own(found)

    def _is_equal(self, found: os.stat_result, entry: Stat) -> bool:
        wanted = (stat.S_IFREG | self._policy.mode(to_posix(entry.mode)), entry.size, entry.mod_time)
        ids = self._policy.ids()
        return (found.st_mode, found.st_size, found.st_mtime_ns) == wanted and ids in (
            None,
            (found.st_uid, found.st_gid),
        )

    def _is_own(self, found: os.stat_result) -> bool:
        identity = (found.st_dev, found.st_ino)
        if found.st_nlink == 1:
            return True
        if identity in self._taken:
            return False
        self._taken.add(identity)
        return True
