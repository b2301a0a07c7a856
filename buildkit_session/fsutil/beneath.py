"""Opening what lies beneath a directory, without ever leaving it.

Owns the one way this library gets at files of a shared directory: component by component from an open descriptor, with
no link followed. What the tree looked like a moment ago does not matter, so there is no race to win.

Paths are ``bytes``, relative, ``/``-separated.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FileOpener", "is_gone", "open_directory", "open_file", "read_link", "transfer_error"]

_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# To pass through a directory takes the permission to search it, not the one to list it.
_PASS: Final = _LIST | getattr(os, "O_PATH", 0)
# Non-blocking, as opening a FIFO would wait for its other end.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_UNCLEAN: Final = frozenset((b"", b".", b".."))

_GONE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE}


def is_gone(error: OSError) -> bool:
    """Tell whether ``error`` says that a name is not there any more, or not as the kind of entry it was."""
    return error.errno in _GONE


def transfer_error(action: str, path: bytes, reason: str | None) -> TransferError:
    """Return an error that names the entry by its path in the tree, never by its place on this machine."""
    shown = path.decode("utf-8", "backslashreplace") or "."
    return TransferError(f"cannot {action} {shown}: {reason}", path=path)


def open_directory(name: bytes, *, dir_fd: int, to_list: bool) -> int:
    """Open the directory ``name`` in ``dir_fd``; a link to a directory is none.

    Args:
        name: one component.
        dir_fd: the directory it is in.
        to_list: whether its entries will be listed, else it serves only to reach them.

    Raises:
        OSError: it cannot be opened; see :func:`is_gone`.
    """
    return os.open(name, _LIST if to_list else _PASS, dir_fd=dir_fd)


def read_link(name: bytes, *, dir_fd: int) -> bytes:
    """Return the target of the link ``name`` in ``dir_fd``.

    Raises:
        OSError: it cannot be read; what is no link counts as gone, see :func:`is_gone`.
    """
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise FileNotFoundError(errno.ENOENT, "not a link") from error
        raise


def open_file(root_fd: int, path: bytes) -> int:
    """Open the regular file ``path`` for reading and return its descriptor, which the caller closes.

    A socket opens as an empty file, since that is how it is listed.

    Raises:
        TransferError: the file has vanished, is unreadable, or is no regular file any more.
    """
    opener = FileOpener(root_fd)
    try:
        return opener.open(path)
    finally:
        opener.close()


class FileOpener:
    """Opens many files beneath ``root_fd``; quick when neighbours are asked for in a row.

    Holds the descriptor of the directory used last until :meth:`close`. ``root_fd`` stays the caller's. Not for use by
    two threads at a time.
    """

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        # The directory used last, and its path; the root needs no descriptor of its own.
        self._directory: int | None = None
        self._directory_path = b""

    def open(self, path: bytes) -> int:
        """Open the regular file ``path``; see :func:`open_file`."""
        return self._open(path, _open_regular)[0]

    def open_listed(self, path: bytes) -> tuple[int, int]:
        """Open the file ``path``, which a walk has listed as a regular one; see :func:`open_file`.

        It is not looked at again before it is opened, a quarter of the cost of reading a small file. What has taken its
        place meanwhile is refused all the same, but only after it was opened.

        Returns:
            The descriptor, and the size of the file in bytes.
        """
        return self._open(path, _open_listed)

    def _open(self, path: bytes, open_in: Callable[[bytes, int], tuple[int, int]]) -> tuple[int, int]:
        parent, slash, name = path.rpartition(b"/")
        # The directory used last was looked at when it was entered.
        new = path.split(b"/") if slash and (not parent or parent != self._directory_path) else (name,)
        if b"\0" in path or not _UNCLEAN.isdisjoint(new):
            raise transfer_error("read", path, "not a clean relative path")
        try:
            return open_in(name, self._enter(parent))
        except OSError as error:
            reason = "it has vanished" if is_gone(error) else error.strerror
            raise transfer_error("read", path, reason) from error
        except _NotRegularError:
            raise transfer_error("read", path, "it is no longer a regular file") from None

    def close(self) -> None:
        """Give back the descriptor; the opener may be used again."""
        if self._directory is not None:
            os.close(self._directory)
        self._directory, self._directory_path = None, b""

    def _enter(self, path: bytes) -> int:
        if path != self._directory_path:
            self.close()
            if path:
                self._directory, self._directory_path = _open_descending(self._root_fd, path), path
        return self._root_fd if self._directory is None else self._directory


class _NotRegularError(Exception):
    pass


def _open_descending(root_fd: int, path: bytes) -> int:
    current = os.dup(root_fd)
    for name in path.split(b"/"):
        try:
            following = open_directory(name, dir_fd=current, to_list=False)
        finally:
            os.close(current)
        current = following
    return current


def _open_regular(name: bytes, dir_fd: int) -> tuple[int, int]:
    mode = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
    if stat.S_ISSOCK(mode):
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0
    # Looked at before it is opened, as opening a device can have effects, and after, as it may have been swapped.
    if not stat.S_ISREG(mode):
        raise _NotRegularError
    return _only_regular(os.open(name, _READ, dir_fd=dir_fd))


def _open_listed(name: bytes, dir_fd: int) -> tuple[int, int]:
    try:
        descriptor = os.open(name, _READ, dir_fd=dir_fd)
    except OSError:  # a socket cannot be opened either
        return _open_regular(name, dir_fd)
    return _only_regular(descriptor)


def _only_regular(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _NotRegularError
    return descriptor, status.st_size
