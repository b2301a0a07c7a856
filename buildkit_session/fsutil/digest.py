"""One value for all that a tree of files would send.

What counts is what a checkout brings along: names, kinds, contents, targets of links. What machines and checkouts
differ in does not: times, owners, extended attributes, inode numbers, whether two names share a file (each counts with
its content), the order in which a file system lists names, and, unless asked for, permissions beyond the one that
version control keeps.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from typing import TYPE_CHECKING, Final, Literal

from buildkit_session.errors import InputError
from buildkit_session.fsutil.beneath import FileOpener, transfer_error
from buildkit_session.fsutil.modes import GoMode, is_plain_file, to_posix
from buildkit_session.fsutil.walk import Filter, walk

if TYPE_CHECKING:
    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["Permissions", "digest_tree"]

Permissions = Literal["portable", "exact"]

_SCHEMES: Final[dict[Permissions, str]] = {"portable": "bks1", "exact": "bks1-exact"}

_KINDS: Final = {
    GoMode.DIR.value: b"d",
    GoMode.SYMLINK.value: b"l",
    GoMode.NAMED_PIPE.value: b"p",
    GoMode.DEVICE.value: b"b",
    GoMode.DEVICE.value | GoMode.CHAR_DEVICE.value: b"c",
}


def digest_tree(root_fd: int, filtered: Filter, *, permissions: Permissions = "portable") -> str:
    """Return the digest of what a transfer of the tree at ``root_fd`` would send.

    It is the SHA-256 of one record for each entry, in the order of the protocol. A record is the kind (a letter: ``f``,
    ``d``, ``l``, ``p``, ``b``, ``c``), the permissions (2 bytes), the path, and then: for a file the SHA-256 of its
    content, for a link its target, for a device both its numbers (4 bytes each). Paths and targets come behind their
    length (4 bytes). Numbers are big-endian.

    Args:
        root_fd: an open directory; stays the caller's.
        filtered: what would be sent.
        permissions: ``exact`` counts all twelve bits; ``portable`` counts whether the owner may execute a file, as
            0o755 or 0o644, so that the umask of a checkout does not matter. Those of links never count.

    Returns:
        The scheme and its version, the algorithm, and the hexadecimal digest: ``bks1:sha256:...``, or
        ``bks1-exact:sha256:...``.

    Raises:
        InputError: a pattern of the filter is malformed, or there is no such way to count permissions.
        TransferError: something cannot be read.
    """
    if permissions not in _SCHEMES:
        raise InputError(f"invalid value {permissions!r} for permissions: expected {' or '.join(_SCHEMES)}")
    total = hashlib.sha256()
    opener = FileOpener(root_fd)
    with closing(opener), closing(walk(root_fd, filtered)) as entries:
        for entry in entries:
            total.update(_record(entry, opener, permissions))
    return f"{_SCHEMES[permissions]}:sha256:{total.hexdigest()}"


def _record(entry: Stat, opener: FileOpener, permissions: Permissions) -> bytes:
    kind = _KINDS.get(entry.mode & GoMode.TYPE.value, b"f")
    shown = _exact(entry.mode) if permissions == "exact" else _portable(entry.mode)
    return kind + shown.to_bytes(2, "big") + _prefixed(entry.path) + _payload(entry, opener)


def _payload(entry: Stat, opener: FileOpener) -> bytes:
    if is_plain_file(entry.mode):
        return _content_digest(opener, entry.path)
    if entry.mode & GoMode.SYMLINK.value:
        return _prefixed(entry.linkname)
    if entry.mode & GoMode.DEVICE.value:
        return entry.devmajor.to_bytes(4, "big") + entry.devminor.to_bytes(4, "big")
    return b""


def _content_digest(opener: FileOpener, path: bytes) -> bytes:
    with os.fdopen(opener.open(path), "rb", buffering=0) as file:
        try:
            return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise transfer_error("read", path, error.strerror) from error


def _exact(mode: int) -> int:
    return 0 if mode & GoMode.SYMLINK.value else to_posix(mode) & 0o7777


def _portable(mode: int) -> int:
    if not is_plain_file(mode):
        return 0
    return 0o755 if mode & 0o100 else 0o644


def _prefixed(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text
