"""The directories below an open one, for writing: reached by name after name, following no link.

Keeps the descriptors of those used last, as neighbours are usually written in a row.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from typing import Final

__all__ = ["Directories"]

MAX_OPEN: Final = 64
OPEN_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Directories:
    """Directories by their path below ``root_fd``, which stays the caller's.

    Methods may raise OSError. Not for use by two threads at a time. A descriptor it gives is good until the next
    call but for ``MAX_OPEN``.
    """

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        # Descriptors by path, the most recently used last.
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def locate(self, path: bytes) -> tuple[int, bytes]:
        """A descriptor of the directory that holds ``path``, and the name in there."""
        parent, _, name = path.rpartition(b"/")
        return self.descriptor(parent), name

    def descriptor(self, path: bytes) -> int:
        """A descriptor of a directory; stays this object's."""
        if not path:
            return self._root_fd
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        return self._descend(path)

    def _descend(self, path: bytes) -> int:
        """Open a directory from its nearest open ancestor. Not by recursion: trees can be deep."""
        ancestor = path
        while ancestor and ancestor not in self._open:
            ancestor = ancestor.rpartition(b"/")[0]
        descriptor = self.descriptor(ancestor)
        start = len(ancestor) + 1 if ancestor else 0
        while start <= len(path):
            end = path.find(b"/", start)
            end = len(path) if end < 0 else end
            # All on the way are kept as well: who comes back up from a deep place needs them one by one.
            descriptor = self._keep(path[:end], os.open(path[start:end], OPEN_FLAGS, dir_fd=descriptor))
            start = end + 1
        return descriptor

    def _keep(self, path: bytes, descriptor: int) -> int:
        self._open[path] = descriptor
        if len(self._open) > MAX_OPEN:
            _close(self._open.popitem(last=False)[1])
        return descriptor

    def remove_tree(self, path: bytes) -> None:
        """Remove a directory with all that is in it; links in there are removed, not followed.

        Not ``shutil.rmtree``, which recurses and holds a descriptor for every level: a listing can be deep enough to
        exhaust both.
        """
        pending = [path]
        while pending:
            directory = pending[-1]
            if below := self._remove_entries(directory):
                pending += below
            else:
                pending.pop()
                self._forget(directory)
                parent, name = self.locate(directory)
                os.rmdir(name, dir_fd=parent)

    def _remove_entries(self, path: bytes) -> list[bytes]:
        """Remove all but directories; returns the paths of those."""
        descriptor = self.descriptor(path)
        with suppress(OSError):  # needed only where it is allowed: a read-only directory of an earlier export
            os.fchmod(descriptor, 0o700)
        with os.scandir(descriptor) as found:
            entries = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in found]
        for name, is_directory in entries:
            if not is_directory:
                os.unlink(name, dir_fd=descriptor)
        return [b"%s/%s" % (path, name) for name, is_directory in entries if is_directory]

    def _forget(self, path: bytes) -> None:
        if (descriptor := self._open.pop(path, None)) is not None:
            _close(descriptor)

    def close(self) -> None:
        """Give all descriptors back; raises nothing, and the object may be used again."""
        while self._open:
            _close(self._open.popitem()[1])


def _close(descriptor: int) -> None:
    with suppress(OSError):  # nothing was written through it that could be lost
        os.close(descriptor)
