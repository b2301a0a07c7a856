"""Directories that an export must not empty or replace by mistake."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["why_protected"]


def why_protected(directory: Path) -> str | None:
    """Say why the content of ``directory`` should not be replaced as a whole, or return ``None``.

    Protected are the root, the home directory and the working directory, with all that contain them, and what is
    reached by a link.
    """
    if directory.is_symlink():
        return "it is a symbolic link"
    target = Path(os.path.realpath(directory))
    if target == Path(target.anchor):
        return "it is the root of the file system"
    for name, place in _places().items():
        if target == place:
            return f"it is the {name}"
        if target in place.parents:
            return f"it contains the {name}"
    return None


def _places() -> dict[str, Path]:
    places = {}
    with suppress(RuntimeError):  # nobody's home
        places["home directory"] = Path(os.path.realpath(Path.home()))
    with suppress(FileNotFoundError):  # it has been removed
        places["working directory"] = Path(os.path.realpath(Path.cwd()))
    return places
