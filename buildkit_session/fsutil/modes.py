"""Kind and permissions of a file, in the two layouts there are.

BuildKit carries Go's ``os.FileMode``, the system speaks POSIX ``st_mode``. Only the nine permission bits agree.

Source: golang/go:src/io/fs/fs.go (FileMode); golang/go:src/os/stat_linux.go (fillFileStatFromSys).
"""

from __future__ import annotations

import stat
from enum import IntFlag
from functools import lru_cache
from typing import Final

__all__ = ["GoMode", "from_posix", "is_plain_file", "to_posix"]


class GoMode(IntFlag):
    """The bits of Go's ``os.FileMode``; a regular file has none of those in ``TYPE``."""

    DIR = 1 << 31
    APPEND = 1 << 30
    EXCLUSIVE = 1 << 29
    TEMPORARY = 1 << 28
    SYMLINK = 1 << 27
    DEVICE = 1 << 26
    NAMED_PIPE = 1 << 25
    SOCKET = 1 << 24
    SETUID = 1 << 23
    SETGID = 1 << 22
    CHAR_DEVICE = 1 << 21
    """A character device has this bit and ``DEVICE``."""
    STICKY = 1 << 20
    IRREGULAR = 1 << 19
    TYPE = DIR | SYMLINK | NAMED_PIPE | SOCKET | DEVICE | CHAR_DEVICE | IRREGULAR
    PERM = 0o777


# Plain integers: arithmetic on IntFlag members is too slow for a million entries.
_TYPE: Final = GoMode.TYPE.value
_PERM: Final = GoMode.PERM.value

_KINDS: Final = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: GoMode.DIR.value,
    stat.S_IFLNK: GoMode.SYMLINK.value,
    stat.S_IFBLK: GoMode.DEVICE.value,
    stat.S_IFCHR: (GoMode.DEVICE | GoMode.CHAR_DEVICE).value,
    stat.S_IFIFO: GoMode.NAMED_PIPE.value,
    stat.S_IFSOCK: GoMode.SOCKET.value,
}
_POSIX_KINDS: Final = {kind: posix for posix, kind in _KINDS.items()}

_SPECIAL: Final = (
    (stat.S_ISUID, GoMode.SETUID.value),
    (stat.S_ISGID, GoMode.SETGID.value),
    (stat.S_ISVTX, GoMode.STICKY.value),
)


@lru_cache(maxsize=256)
def from_posix(st_mode: int) -> int:
    """Return ``st_mode`` in Go's layout; a kind only some other system has becomes ``IRREGULAR``.

    Remembers what it returned, as the entries of a tree have few different modes.
    """
    mode = (st_mode & _PERM) | _KINDS.get(stat.S_IFMT(st_mode), GoMode.IRREGULAR.value)
    for posix, bit in _SPECIAL:
        if st_mode & posix:
            mode |= bit
    return mode


def to_posix(mode: int) -> int:
    """Return Go's ``mode`` as ``st_mode``.

    Raises:
        ValueError: the type bits name no kind of file that POSIX has.
    """
    if mode <= _PERM:  # most entries of most trees
        return mode | stat.S_IFREG
    kind = _POSIX_KINDS.get(mode & _TYPE)
    if kind is None:
        raise ValueError(f"mode {mode:#x} names no kind of file")
    st_mode = (mode & _PERM) | kind
    for posix, bit in _SPECIAL:
        if mode & bit:
            st_mode |= posix
    return st_mode


def is_plain_file(mode: int) -> bool:
    """Tell whether Go's ``mode`` is that of a regular file, the only kind with contents."""
    return not mode & _TYPE
