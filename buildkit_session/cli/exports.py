"""What exports have to say after a build: what was changed for safety, and listings."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from buildkit_session.fsutil.listing import ListedEntry
    from buildkit_session.services.exported import Exported

__all__ = ["listing", "notice"]

_KINDS: Final = {
    "file": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "block device": stat.S_IFBLK,
    "character device": stat.S_IFCHR,
}
_ESCAPES: Final = {number: f"\\x{number:02x}" for number in (*range(0x20), 0x7F)}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def notice(exported: Exported) -> str:
    """Return a line about what entries lost, or an empty text."""
    lost = []
    if exported.dropped_bits:
        lost.append(f"{_count(exported.dropped_bits, 'file')} lost set-user-id, set-group-id or sticky bits")
    if exported.dropped_xattrs:
        lost.append(f"{_count(exported.dropped_xattrs, 'entry', 'entries')} lost extended attributes")
    return f"{exported.dest}: {' and '.join(lost)}; permissions=upstream keeps them\n" if lost else ""


def listing(exported: Exported) -> str:
    """Return the entries of a listing, one a line, in the manner of ``tar -tv``; times are in UTC.

    Control characters in names are escaped, so that a line is an entry; all other bytes are as they are.
    """
    return "".join(map(_line, exported.entries))


def _line(entry: ListedEntry) -> str:
    mode = stat.filemode(_KINDS[entry.kind] | entry.mode)
    text = f"{mode} {entry.uid}/{entry.gid} {entry.size:>10} {_time(entry.mtime_ns)} {_shown(entry.path)}"
    if entry.linkname:
        arrow = "->" if entry.kind == "symlink" else "link to"
        text += f" {arrow} {_shown(entry.linkname)}"
    return f"{text}\n"


def _time(nanoseconds: int) -> str:
    return (_EPOCH + timedelta(seconds=nanoseconds // 10**9)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(path: str) -> str:
    return path.translate(_ESCAPES)


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
