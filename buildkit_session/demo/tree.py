"""Print a directory as a tree."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["tree"]


def tree(folder: Path, *, indent: str = "") -> Iterator[str]:
    """Yield a line for each entry below a folder, in the order of names: permissions, size in bytes, name.

    Symbolic links show their target and are not followed.
    """
    entries = sorted(folder.iterdir())
    for entry in entries:
        last = entry == entries[-1]
        status = entry.lstat()
        size = status.st_size if stat.S_ISREG(status.st_mode) else ""
        target = f" -> {entry.readlink()}" if entry.is_symlink() else ""
        yield f"{stat.filemode(status.st_mode)} {size:>6}  {indent}{'└── ' if last else '├── '}{entry.name}{target}"
        if stat.S_ISDIR(status.st_mode):
            yield from tree(entry, indent=indent + ("    " if last else "│   "))
