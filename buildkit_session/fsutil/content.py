"""Content in the pieces it came in, written to a file without being copied together first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Piece", "write_all"]

Piece: TypeAlias = bytes | memoryview

MAX_PIECES: Final = min(os.sysconf("SC_IOV_MAX"), 1024)
"""Pieces that the system takes at once."""


def write_all(descriptor: int, pieces: Sequence[Piece]) -> None:
    """Write all pieces in order, in as few system calls as possible; may raise OSError."""
    for start in range(0, len(pieces), MAX_PIECES):
        batch = pieces[start : start + MAX_PIECES]
        written = os.writev(descriptor, batch)
        # Less than all of it when a signal or a limit comes between; then the next call says why.
        if written < sum(map(len, batch)):
            _write_rest(descriptor, batch, written)


def _write_rest(descriptor: int, pieces: Sequence[Piece], skipped: int) -> None:
    """Write what follows the first ``skipped`` bytes."""
    for piece in pieces:
        left = memoryview(piece)[skipped:]
        skipped = max(skipped - len(piece), 0)
        while left:
            left = left[os.write(descriptor, left) :]
