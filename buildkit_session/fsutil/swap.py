"""Replaces a directory by another in one step: who looks sees the old tree or the new one, whole.

The new tree is built aside, in a directory beside the destination and so on the same file system. Linux exchanges the
two names atomically; where that cannot be had there are two renames, with a moment between them in which the
destination does not exist.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.directories import Directories

__all__ = ["Swap"]

AT_FDCWD: Final = -100
RENAME_EXCHANGE: Final = 2
_NOT_THERE: Final = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}


class Swap:
    """A new tree that will take the place of a directory. Synchronous.

    Args:
        destination: resolved once, links included; need not exist.

    Attributes:
        aside: where the new tree is built.
    """

    def __init__(self, destination: Path) -> None:
        self._destination = Path(os.path.realpath(destination))
        self.aside = self._beside()
        self._exists = False

    def open(self) -> int:
        """Make the directory aside, if it is not there yet, and return a descriptor of it, which the caller closes.

        Raises:
            TransferError: it cannot be made.
        """
        try:
            if not self._exists:
                self._destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.aside.mkdir(mode=0o700)
                self._exists = True
            return os.open(self.aside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise TransferError(f"cannot write beside {self._destination}: {error.strerror}") from error

    def commit(self) -> None:
        """Put the new tree in the place of the old one, which is removed.

        The directory itself gets the permissions and the owner of the old one.

        Raises:
            TransferError: it could not be done. The old tree is in its place, or the text says where it is.
        """
        try:
            old = self._replace()
        except OSError as error:
            self.abandon()
            raise TransferError(f"cannot replace {self._destination}: {error.strerror}") from error
        self._exists = False
        if old is not None:
            try:
                _remove(old)
            except OSError as error:
                text = f"{self._destination} is complete, but the old tree could not be removed from {old}"
                raise TransferError(f"{text}: {error.strerror}") from error

    def abandon(self) -> None:
        """Remove what was built, if it has not taken its place. Raises nothing."""
        if self._exists:
            self._exists = False
            with suppress(OSError):
                _remove(self.aside)

    def _replace(self) -> Path | None:
        """Returns where the old tree is now."""
        try:
            found = os.lstat(self._destination)
        except FileNotFoundError:
            os.rename(self.aside, self._destination)
            return None
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        _adopt(self.aside, found)
        if _exchange(self.aside, self._destination):
            return self.aside
        old = self._beside()
        os.rename(self._destination, old)
        try:
            os.rename(self.aside, self._destination)
        except OSError:
            os.rename(old, self._destination)
            raise
        return old

    def _beside(self) -> Path:
        return self._destination.with_name(f".tmp.{secrets.token_hex(8)}")


def _adopt(directory: Path, model: os.stat_result) -> None:
    found = os.lstat(directory)
    if (found.st_uid, found.st_gid) != (model.st_uid, model.st_gid):
        with suppress(OSError):  # a courtesy that takes privileges
            os.chown(directory, model.st_uid, model.st_gid)
    os.chmod(directory, stat.S_IMODE(model.st_mode))


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names atomically; ``False`` where system, C library or file system cannot.

    Source: renameat2(2).
    """
    if sys.platform != "linux":
        return False
    import ctypes  # noqa: PLC0415 - no other export needs it

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    arguments = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), ctypes.c_uint(RENAME_EXCHANGE))
    if renameat2(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_THERE:
        return False
    raise OSError(number, os.strerror(number))


def _remove(directory: Path) -> None:
    parent_fd = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directories = Directories(parent_fd)
        try:
            directories.remove_tree(os.fsencode(directory.name))
        finally:
            directories.close()
    finally:
        os.close(parent_fd)
