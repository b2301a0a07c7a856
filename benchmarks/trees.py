"""Build contexts: one large file, or many small ones, always the same for the same amount."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from benchmarks.scale import MIB

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KEEP_ALL", "KEEP_LITTLE", "context_of_files", "context_of_size", "context_of_text"]

MAX_FILE: Final = 4096
FILES_A_FOLDER: Final = 100

KEEP_LITTLE: Final = "FROM scratch AS sent\nCOPY . /\nFROM scratch\nCOPY --from=sent /keep-little /\n"
"""Takes all of the context, and gives back a file of some bytes: what is measured is the way up."""

KEEP_ALL: Final = "FROM scratch\nCOPY . /\n"


def context_of_size(folder: Path, size: int) -> Path:
    """Make a context with one file of ``size`` bytes, a multiple of 1 MiB. Its contents do not compress."""
    block = random.Random(size).randbytes(MIB)  # noqa: S311 - no secret
    with _context(folder).joinpath("large").open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)
    return folder


def context_of_files(folder: Path, count: int) -> Path:
    """Make a context with ``count`` files of 0 to 4 KiB, a hundred in each folder."""
    chance = random.Random(count)  # noqa: S311 - no secret
    block = chance.randbytes(2 * MAX_FILE)
    _context(folder)
    for number in range(count):
        below = folder / f"folder-{number // FILES_A_FOLDER:05}"
        if not number % FILES_A_FOLDER:
            below.mkdir()
        start = chance.randrange(MAX_FILE)
        (below / f"file-{number:06}.bin").write_bytes(block[start : start + chance.randint(0, MAX_FILE)])
    return folder


def context_of_text(folder: Path, dockerfile: str) -> Path:
    """Make a context that holds a Dockerfile alone."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    return folder


def _context(folder: Path) -> Path:
    folder.mkdir()
    (folder / "keep-little").write_text(KEEP_LITTLE)
    (folder / "keep-all").write_text(KEEP_ALL)
    return folder
