"""The files of a listing by their names, to be looked up, in little memory: a listing can have millions of them."""

from __future__ import annotations

__all__ = ["ListedNames"]


class ListedNames:
    """A set of paths that are added in the order of a listing: names in one directory only ever become greater.

    Takes the length of a name and one byte for each path, and the path of each directory once.
    """

    def __init__(self) -> None:
        # Its names by directory: one after the other, each with a slash behind it, which no name contains.
        self._by_directory: dict[bytes, bytearray] = {}

    def add(self, directory: bytes, name: bytes) -> None:
        """Add a path, in two parts: up to its last slash, and the name behind that."""
        names = self._by_directory.get(directory)
        if names is None:
            names = self._by_directory[directory] = bytearray()
        names += name
        names += b"/"

    def __contains__(self, path: bytes) -> bool:
        """Look ``path`` up, in a time that grows with the logarithm of the size of its directory."""
        start = path.rfind(b"/") + 1
        names = self._by_directory.get(path[:start], bytearray())
        wanted = path[start:]
        low, high = 0, len(names)  # between them are whole names, and the wanted one if it is there
        while low < high:
            start = names.rfind(b"/", low, (low + high) // 2) + 1 or low
            end = names.index(b"/", start)
            name = names[start:end]
            if name == wanted:
                return True
            if name < wanted:
                low = end + 1
            else:
                high = start
        return False
