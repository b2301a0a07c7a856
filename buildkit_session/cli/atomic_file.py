"""Files that are either whole or not there: whoever reads one while it is renewed sees the old or the new.

Source: moby/sys:atomicwriter/atomicwriter.go (WriteFile).
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["require_place", "write_whole"]

MODE: Final = 0o644


def write_whole(path: Path, data: bytes) -> None:
    """Write a file by way of another one beside it, which then takes its name.

    A link is followed. The file can be read by all, whatever the umask.

    Raises:
        InputError: it cannot be written, or is there and no regular file.
    """
    with _translated(path):
        _replace(_target(path), data)


def require_place(path: Path) -> None:
    """Make sure, as far as can be told beforehand, that :func:`write_whole` can write a file.

    Raises:
        InputError: it cannot.
    """
    with _translated(path):
        folder = os.path.dirname(_target(path))
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _target(path: Path) -> str:
    target = os.path.realpath(path)
    if not _can_be_replaced(target):
        raise InputError(f"cannot write {path}: it is there and no regular file; name another path")
    return target


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; name a path in a folder that can be written"
        ) from error


def _can_be_replaced(target: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(target).st_mode)
    except FileNotFoundError:
        return True


def _replace(target: str, data: bytes) -> None:
    import tempfile  # noqa: PLC0415 - few builds write such a file, and it brings much along

    folder, name = os.path.split(target)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, MODE)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
