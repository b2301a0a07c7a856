"""What is left to do for entries that were listed: files to ask for, directories to finish.

A daemon lists everything before most of the content comes, so there can be hundreds of thousands of them. Messages of
half a kilobyte each would not do: what is needed of an entry is kept as a row, and rows that wait for long are packed,
into some twenty bytes each.
"""

from __future__ import annotations

import marshal
import zlib
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["Backlog", "FileEntry", "Row"]

BLOCK: Final = 512
"""Rows packed together."""

FASTEST: Final = 1
"""The level of zlib: twenty times quicker than the best one, and nearly as good on paths."""


class FileEntry(Protocol):
    """What writing the content and the metadata of an entry takes; see ``Stat``."""

    @property
    def path(self) -> bytes: ...  # noqa: D102
    @property
    def mode(self) -> int: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def mod_time(self) -> int: ...  # noqa: D102
    @property
    def xattrs(self) -> Mapping[str, bytes]: ...  # noqa: D102


class Row(NamedTuple):
    """A :class:`FileEntry`, and the number it is asked for by."""

    number: int
    path: bytes
    mode: int
    size: int
    mod_time: int
    xattrs: dict[str, bytes]

    @classmethod
    def of(cls, number: int, entry: Stat) -> Row:
        """Take what is needed out of an entry."""
        return cls(number, entry.path, int(entry.mode), entry.size, entry.mod_time, entry.xattrs)


class Backlog:
    """A queue of rows with two ends, as ``collections.deque``."""

    def __init__(self) -> None:
        # In their order: few as they are, many packed, few as they are.
        self._first: deque[Row] = deque()
        self._packed: deque[bytes] = deque()
        self._last: deque[Row] = deque()

    def __bool__(self) -> bool:
        return bool(self._first or self._packed or self._last)

    def append(self, row: Row) -> None:
        """Add a row behind the others."""
        self._last.append(row)
        if len(self._last) == 2 * BLOCK:
            self._packed.append(_pack([self._last.popleft() for _ in range(BLOCK)]))

    def popleft(self) -> Row:
        """Take the first row away; there must be one."""
        if not self._first:
            if not self._packed:
                return self._last.popleft()
            self._first = _unpack(self._packed.popleft())
        return self._first.popleft()

    def pop(self) -> Row:
        """Take the last row away; there must be one."""
        if not self._last:
            if not self._packed:
                return self._first.pop()
            self._last = _unpack(self._packed.pop())
        return self._last.pop()


def _pack(rows: list[Row]) -> bytes:
    return zlib.compress(marshal.dumps([tuple(row) for row in rows]), FASTEST)


def _unpack(packed: bytes) -> deque[Row]:
    """Undo :func:`_pack`; never given anything else, as ``marshal`` is not for what others wrote."""
    return deque(map(Row._make, marshal.loads(zlib.decompress(packed))))  # noqa: S302
