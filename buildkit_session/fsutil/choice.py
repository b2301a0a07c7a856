"""Which entries of a listing the receiver takes: what its patterns leave out is neither written nor asked for.

Patterns have the meaning they have in a ``.dockerignore``. Directories on the way to what is kept are kept too.
"""

from __future__ import annotations

import os
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from buildkit_session.fsutil.filter import Selection
from buildkit_session.fsutil.modes import GoMode, is_plain_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.fsutil.filter import Verdict
    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["Choice", "Chosen"]

_DIRECTORY = GoMode.DIR.value


class Chosen(NamedTuple):
    """An entry to take, and the number of the listed entry that has its content."""

    number: int
    entry: Stat


class _Directory:
    """A directory on the way to the current entry; ``waiting`` until something below it is kept."""

    __slots__ = ("verdict", "waiting")

    def __init__(self, verdict: Verdict, waiting: Chosen | None) -> None:
        self.verdict = verdict
        self.waiting = waiting


class Choice:
    """Goes through a listing that has been checked, in its order.

    The daemon sends content only for the first name of a file. Where that is left out, the first name that is kept
    becomes the file: it is written with the content of the one left out, and later names become links to it.

    Raises:
        InputError: a pattern is malformed.
    """

    def __init__(self, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self._selection = Selection(include, exclude)
        self._above: list[_Directory] = []
        self._left_out: dict[bytes, Chosen] = {}  # files, by path
        self._first_kept: dict[bytes, bytes] = {}  # the name that became the file, by the one left out

    def take(self, number: int, entry: Stat) -> Iterator[Chosen]:
        """Take the next entry; gives what is now known to be kept, parents first."""
        *parents, name = entry.path.split(b"/")
        del self._above[len(parents) :]
        parent = self._above[-1].verdict if self._above else self._selection.root
        verdict = self._selection.judge(parent, os.fsdecode(name))
        chosen = Chosen(number, entry)
        if verdict.kept:
            yield from self._parents()
            yield self._with_content(chosen)
        elif is_plain_file(entry.mode) and not entry.linkname:
            self._left_out[entry.path] = chosen
        if entry.mode & _DIRECTORY:
            self._above.append(_Directory(verdict, None if verdict.kept else chosen))

    def _parents(self) -> Iterator[Chosen]:
        for directory in self._above:
            if directory.waiting is not None:
                yield directory.waiting
                directory.waiting = None

    def _with_content(self, chosen: Chosen) -> Chosen:
        entry = chosen.entry
        if not entry.linkname or not is_plain_file(entry.mode):
            return chosen
        if (first := self._first_kept.get(entry.linkname)) is not None:
            return Chosen(chosen.number, _changed(entry, linkname=first, size=entry.size))
        if (source := self._left_out.get(entry.linkname)) is not None:
            self._first_kept[entry.linkname] = entry.path
            # A link may be listed with a size of 0.
            return Chosen(source.number, _changed(entry, linkname=b"", size=source.entry.size))
        return chosen


def _changed(entry: Stat, *, linkname: bytes, size: int) -> Stat:
    changed = copy(entry)
    changed.linkname = linkname
    changed.size = size
    return changed
