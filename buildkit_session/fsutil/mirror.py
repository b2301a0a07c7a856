"""Removes from a directory what an export did not list, so that it holds the result and nothing else.

Follows no link: what a link leads to is never touched, the link itself may be removed. The directories that are kept
keep the modes and times they have.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.directories import Directories
from buildkit_session.fsutil.filter import Selection
from buildkit_session.fsutil.validate import shown

if TYPE_CHECKING:
    from collections.abc import Container

    from buildkit_session.fsutil.filter import Verdict

__all__ = ["remove_unlisted"]


def remove_unlisted(
    root_fd: int, listed: Container[bytes], *, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
) -> int:
    """Remove all below ``root_fd`` that is not listed; returns the number of entries removed.

    Args:
        root_fd: an open directory; stays the caller's.
        listed: the paths to keep.
        include: what these patterns leave out of an export is not the export's business and stays.
        exclude: likewise.

    Raises:
        TransferError: something could not be removed; what was removed before it is gone.
    """
    sweep = _Sweep(root_fd, listed, Selection(include, exclude))
    try:
        sweep.run()
    finally:
        sweep.close()
    return sweep.removed


class _Directory(NamedTuple):
    path: bytes
    verdict: Verdict


class _Left(NamedTuple):
    """A directory whose content has been dealt with, and what it was like before."""

    directory: _Directory
    before: os.stat_result


class _Sweep:
    def __init__(self, root_fd: int, listed: Container[bytes], selection: Selection) -> None:
        self.removed = 0
        self._directories = Directories(root_fd)
        self._listed = listed
        self._selection = selection
        # Instead of recursion: trees can be deep.
        self._pending: list[_Directory | _Left] = [_Directory(b"", selection.root)]

    def run(self) -> None:
        while self._pending:
            step = self._pending.pop()
            try:
                if isinstance(step, _Left):
                    self._leave(step)
                else:
                    self._enter(step)
            except OSError as error:
                path = step.directory.path if isinstance(step, _Left) else step.path
                text = f"cannot remove what is no longer in the result from {shown(path or b'.')}: {error.strerror}"
                raise TransferError(text, path=path) from error

    def close(self) -> None:
        self._directories.close()

    def _enter(self, directory: _Directory) -> None:
        descriptor = self._directories.descriptor(directory.path)
        self._pending.append(_Left(directory, os.fstat(descriptor)))
        with os.scandir(descriptor) as found:
            entries = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in found]
        for name, is_directory in entries:
            path = b"%s/%s" % (directory.path, name) if directory.path else name
            verdict = self._selection.judge(directory.verdict, os.fsdecode(name))
            if is_directory:
                self._pending.append(_Directory(path, verdict))
            elif verdict.kept and path not in self._listed:
                _make_writable(descriptor)
                os.unlink(name, dir_fd=descriptor)
                self.removed += 1

    def _leave(self, left: _Left) -> None:
        path = left.directory.path
        if not path:
            return  # the destination itself is not part of the result
        if path not in self._listed and left.directory.verdict.kept and self._remove_if_empty(path):
            return
        descriptor = self._directories.descriptor(path)
        after = os.fstat(descriptor)
        if after.st_mode != left.before.st_mode:
            os.fchmod(descriptor, stat.S_IMODE(left.before.st_mode))
        if after.st_mtime_ns != left.before.st_mtime_ns:
            os.utime(descriptor, ns=(left.before.st_atime_ns, left.before.st_mtime_ns))

    def _remove_if_empty(self, path: bytes) -> bool:
        """Remove a directory, unless patterns have left something in it."""
        descriptor = self._directories.descriptor(path)
        with os.scandir(descriptor) as found:
            if next(found, None) is not None:
                return False
        parent, name = self._directories.locate(path)
        _make_writable(parent)
        os.rmdir(name, dir_fd=parent)
        self.removed += 1
        return True


def _make_writable(descriptor: int) -> None:
    mode = os.fstat(descriptor).st_mode
    if mode & 0o700 != 0o700:
        with suppress(OSError):  # whether it was needed shows in what follows
            os.fchmod(descriptor, stat.S_IMODE(mode) | 0o700)
