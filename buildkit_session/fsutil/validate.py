"""Checks on the listing a peer sends, before any of it touches a disk.

Source: tonistiigi/fsutil:validator.go, hardlinks.go; stricter where upstream lets ``..``, ``.`` or an empty name pass.
"""

from __future__ import annotations

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.fsutil.modes import GoMode, is_plain_file
from buildkit_session.printable import printable

__all__ = ["ListingCheck", "shown"]

MAX_PATH = 4096
MAX_NAME = 255


def shown(text: bytes) -> str:
    """A path or a text of the peer for people: control characters escaped, at most ``MAX_PATH`` bytes of it."""
    return printable(text[:MAX_PATH].decode("utf-8", "backslashreplace"))


class ListingCheck:
    """Holds every entry against those before it: clean relative paths, in order, parents first, honest hard links.

    Memory is one path a directory level, and the set of names that hard links may refer to.
    """

    def __init__(self) -> None:
        # The last entry's components: the directories that are open, then the last name in the deepest of them.
        self._last: list[bytes] = []
        self._last_is_directory = True
        self._linkable: set[bytes] = set()

    def check(self, path: bytes, mode: int, linkname: bytes) -> None:
        """Check the next entry.

        Raises:
            RemoteProtocolError: the entry is refused; the text says why.
        """
        names = _components(path)
        self._check_order(path, names)
        plain = is_plain_file(mode)
        if plain and linkname:
            if linkname not in self._linkable:
                raise RemoteProtocolError(f"{shown(path)} is a hard link to {shown(linkname)}, which was not listed")
        elif plain:
            self._linkable.add(path)
        self._last = names
        self._last_is_directory = bool(mode & GoMode.DIR)

    def _check_order(self, path: bytes, names: list[bytes]) -> None:
        """Depth first, siblings in the order of their bytes, every parent listed as a directory.

        With components compared one by one, each entry must be greater than the one before, and may lengthen it
        by one name at most, if that was a directory.
        """
        parent = names[:-1]
        open_directories = self._last if self._last_is_directory else self._last[:-1]
        if parent != open_directories[: len(parent)]:
            raise RemoteProtocolError(f"{shown(path)} is listed before its directory, or after that was left")
        if names <= self._last:
            raise RemoteProtocolError(f"{shown(path)} is listed out of order")


def _components(path: bytes) -> list[bytes]:
    if len(path) > MAX_PATH:
        raise RemoteProtocolError(f"a path of {len(path)} bytes is listed, {MAX_PATH} are accepted")
    names = path.split(b"/")
    for name in names:
        if name in (b"", b".", b"..") or b"\0" in name:
            raise RemoteProtocolError(f"'{shown(path)}' is not a clean relative path")
        if len(name) > MAX_NAME:
            raise RemoteProtocolError(f"a name of {len(name)} bytes is listed, {MAX_NAME} are accepted")
    return names
