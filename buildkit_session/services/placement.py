"""How an exported tree comes to stand at its destination: merged, mirrored or swapped.

An export may arrive in several streams at once, one for each platform. All of them write below a directory that
``open`` gives; what follows for the whole destination happens in ``commit``, when all have been received.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.mirror import remove_unlisted
from buildkit_session.fsutil.swap import Swap

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.fsutil.options import ReceiveOptions
    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["Placement", "PlacementMode", "place"]

PlacementMode: TypeAlias = Literal["merge", "mirror", "swap"]


class Placement(Protocol):
    """Called in threads; ``open`` and ``commit`` may raise TransferError."""

    def open(self) -> int:
        """Return a descriptor of the directory to write into, which the caller closes."""
        ...

    def note(self, entry: Stat) -> None:
        """Hear of an entry that is part of the result."""
        ...

    def commit(self) -> int:
        """Bring the export to its end; returns how many entries were removed for it."""
        ...

    def abandon(self) -> None:
        """Take back what an export that was not committed left behind. After ``commit`` it does nothing."""
        ...


def place(destination: Path, mode: PlacementMode, options: ReceiveOptions) -> Placement:
    """Return the placement for a mode."""
    match mode:
        case "merge":
            return _Merged(destination)
        case "mirror":
            return _Mirrored(destination, options)
        case "swap":
            return _Swapped(destination)


class _Merged:
    """What is listed is written, the rest stays."""

    def __init__(self, destination: Path) -> None:
        self._destination = destination

    def open(self) -> int:
        try:
            # Private, as upstream: the files of an image are made for its users, not for those of this machine.
            self._destination.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TransferError(f"cannot write into {self._destination}: {error.strerror}") from error

    def note(self, entry: Stat) -> None:
        del entry

    def commit(self) -> int:
        return 0

    def abandon(self) -> None:
        pass


class _Mirrored(_Merged):
    """What is listed is written, the rest is removed."""

    def __init__(self, destination: Path, options: ReceiveOptions) -> None:
        super().__init__(destination)
        self._options = options
        self._listed: set[bytes] = set()

    def note(self, entry: Stat) -> None:
        self._listed.add(entry.path)

    def commit(self) -> int:
        root_fd = self.open()
        try:
            return remove_unlisted(root_fd, self._listed, include=self._options.include, exclude=self._options.exclude)
        finally:
            os.close(root_fd)


class _Swapped:
    """What is listed is written aside, then takes the place of all there was."""

    def __init__(self, destination: Path) -> None:
        self._swap = Swap(destination)
        self._opening = threading.Lock()

    def open(self) -> int:
        with self._opening:
            return self._swap.open()

    def note(self, entry: Stat) -> None:
        del entry

    def commit(self) -> int:
        self._swap.commit()
        return 0

    def abandon(self) -> None:
        self._swap.abandon()
