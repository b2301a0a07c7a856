"""Gives an entry on disk its owner, permissions, times and extended attributes, as the policy has it.

The order is upstream's: attributes, owner, permissions, time. Every change of owner makes the system take
``security.capability`` and the special bits away: the former stays lost, as upstream, the latter come after it.

Source: tonistiigi/fsutil:diskwriter_unix.go (rewriteMetadata).
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from buildkit_session.fsutil.modes import to_posix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.fsutil.backlog import FileEntry
    from buildkit_session.fsutil.policy import Policy

__all__ = ["set_node_metadata", "set_open_metadata"]


def set_open_metadata(descriptor: int, entry: FileEntry, policy: Policy) -> None:
    """Apply it to an open file or directory; may raise OSError."""
    if policy.upstream:
        _set_xattrs(descriptor, entry.xattrs)
    if (ids := policy.ids()) is not None:
        os.chown(descriptor, *ids)
    os.fchmod(descriptor, policy.mode(to_posix(entry.mode)))
    os.utime(descriptor, ns=(entry.mod_time, entry.mod_time))


def set_node_metadata(name: bytes, entry: FileEntry, policy: Policy, *, dir_fd: int) -> None:
    """Apply it to what must not be opened: a symbolic link, a pipe, a device; may raise OSError.

    Args:
        name: a name nobody else knows, as permissions are set through it and a link in its place would be followed.
        entry: as listed.
        policy: what of it to apply.
        dir_fd: the directory of the name.
    """
    mode = to_posix(entry.mode)
    if policy.upstream:
        # No system call takes a directory and a name before Linux 6.13; /proc gives the directory a path.
        _set_xattrs(b"/proc/self/fd/%d/%s" % (dir_fd, name), entry.xattrs)
    if (ids := policy.ids()) is not None:
        os.chown(name, *ids, dir_fd=dir_fd, follow_symlinks=False)
    if not stat.S_ISLNK(mode):
        os.chmod(name, policy.mode(mode), dir_fd=dir_fd)
    os.utime(name, ns=(entry.mod_time, entry.mod_time), dir_fd=dir_fd, follow_symlinks=False)


def _set_xattrs(where: int | bytes, xattrs: Mapping[str, bytes]) -> None:
    if sys.platform != "linux":
        return
    for key, value in xattrs.items():
        # As upstream: what the file system, or who we are, does not allow is left out. A bad key is a ValueError.
        with suppress(OSError, ValueError):
            if isinstance(where, int):
                os.setxattr(where, key, value)
            else:
                os.setxattr(where, key, value, follow_symlinks=False)
