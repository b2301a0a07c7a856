"""Extended attributes of the entries of a directory.

Source: tonistiigi/fsutil:stat_unix.go (loadXattr).
"""

from __future__ import annotations

import os
import sys

__all__ = ["read_xattrs"]


def read_xattrs(name: bytes, *, dir_fd: int) -> dict[str, bytes]:
    """Return the extended attributes of ``name`` in ``dir_fd`` that this process may read.

    A link's own attributes are returned, not its target's. Nothing is opened. What cannot be read is left out, as some
    file systems have no attributes, and no transfer is worth failing over them. So is ``com.apple.*``, as upstream.
    """
    if sys.platform != "linux":
        return {}
    # No system call takes a directory and a name before Linux 6.13; /proc gives the directory a path.
    path = b"/proc/self/fd/%d/%s" % (dir_fd, name)
    try:
        keys = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    values = {}
    for key in keys:
        if key.startswith("com.apple.") or not _is_text(key):
            continue
        try:
            values[key] = os.getxattr(path, key, follow_symlinks=False)
        except OSError:
            continue
    return values


def _is_text(key: str) -> bool:
    # The protocol has keys of type string; an undecodable byte is a surrogate here.
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
