"""Checks on the listing a peer sends, before any of it touches a disk.

Source: tonistiigi/fsutil:validator.go, hardlinks.go; stricter where upstream lets ``..``, ``.`` or an empty name pass.
"""

from __future__ import annotations

from typing import Final

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.fsutil.modes import GoMode
from buildkit_session.fsutil.names import ListedNames
from buildkit_session.printable import printable

__all__ = ["ListingCheck", "shown"]

MAX_PATH = 4096
MAX_NAME = 255

_NO_NAMES: Final = frozenset((b"", b".", b".."))

# Plain integers: arithmetic on IntFlag members is too slow for a million entries.
_TYPE: Final = GoMode.TYPE.value
_DIRECTORY: Final = GoMode.DIR.value


def shown(text: bytes) -> str:
    """A path or a text of the peer for people: control characters escaped, at most ``MAX_PATH`` bytes of it."""
    return printable(text[:MAX_PATH].decode("utf-8", "backslashreplace"))


class ListingCheck:
    """Holds every entry against those before it: clean relative paths, in order, parents first, honest hard links.

    Memory is the last path, and the names that hard links may refer to.
    """

    def __init__(self) -> None:
        # The last entry: the path up to its name, its name, and whether entries can be in it.
        self._directory = b""
        self._name = b""
        self._is_directory = False
        self._files = ListedNames()

    def check(self, path: bytes, mode: int, linkname: bytes) -> None:
        """Check the next entry.

        Raises:
            RemoteProtocolError: the entry is refused; the text says why.
        """
        if len(path) > MAX_PATH:
            raise RemoteProtocolError(f"a path of {len(path)} bytes is listed, {MAX_PATH} are accepted")
        start = path.rfind(b"/") + 1
        directory, name = path[:start], path[start:]
        # Most entries are the next one in the directory of the last: that one was looked at then.
        if directory != self._directory or name <= self._name:
            self._check_step(path)
        _check_name(path, name)
        if not mode & _TYPE:
            if not linkname:
                self._files.add(directory, name)
            elif linkname not in self._files:
                raise RemoteProtocolError(f"{shown(path)} is a hard link to {shown(linkname)}, which was not listed")
        self._directory = directory
        self._name = name
        self._is_directory = bool(mode & _DIRECTORY)

    def _check_step(self, path: bytes) -> None:
        """Depth first, siblings in the order of their bytes, every parent listed as a directory.

        With components compared one by one, each entry must be greater than the one before, and may lengthen it
        by one name at most, if that was a directory.
        """
        names = path.split(b"/")
        for name in names:
            _check_name(path, name)
        last = (self._directory + self._name).split(b"/") if self._name else []
        open_directories = last if self._is_directory else last[:-1]
        parent = names[:-1]
        if parent != open_directories[: len(parent)]:
            raise RemoteProtocolError(f"{shown(path)} is listed before its directory, or after that was left")
        if names <= last:
            raise RemoteProtocolError(f"{shown(path)} is listed out of order")


def _check_name(path: bytes, name: bytes) -> None:
    if name in _NO_NAMES or b"\0" in name:
        raise RemoteProtocolError(f"'{shown(path)}' is not a clean relative path")
    if len(name) > MAX_NAME:
        raise RemoteProtocolError(f"a name of {len(name)} bytes is listed, {MAX_NAME} are accepted")
