"""Unfinished blobs of a layout: found by their names, listed, given up, and cleared away when nobody wants them.

A build that breaks off leaves them, and the next one goes on where it has ended. If there is none, they would stay for
ever; so those that nobody has touched for a day are removed before a build writes to the layout.

Everything here may block.

Source: containerd/containerd:plugins/content/local/store.go (Status, ListStatuses, Abort).
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.beneath import is_gone, open_directory
from buildkit_session.services.oci_layout import Ingest, RefLockedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.services.oci_layout import OciLayout

__all__ = ["Unfinished", "abort", "find", "list_all", "remove_stale"]

STALE: Final = 24 * 60 * 60.0
"""Seconds after which an unfinished blob is of no use, as containerd has it."""

MAX_TEXT: Final = 16 * 1024
"""Bytes of one of the files about a blob."""

_NAME: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A blob that is being written, or was.

    Attributes:
        ref: its name.
        offset: bytes there are of it.
        total: bytes it will have; 0 if nobody knows.
        started: nanoseconds since the Unix epoch.
        updated: likewise.
    """

    ref: str
    offset: int
    total: int
    started: int
    updated: int


def find(layout: OciLayout, ref: str) -> Unfinished | None:
    """Look for the blob that is written under a name.

    Raises:
        TransferError: the layout cannot be read.
    """
    name = hashlib.sha256(ref.encode()).hexdigest()
    with _ingests(layout) as ingests_fd:
        return None if ingests_fd is None else _read(ingests_fd, name)


def list_all(layout: OciLayout) -> list[Unfinished]:
    """List them, in no order. Raises as :func:`find`."""
    with _ingests(layout) as ingests_fd:
        if ingests_fd is None:
            return []
        found = [_read(ingests_fd, name) for name in os.listdir(ingests_fd) if _NAME.fullmatch(name)]
    return [one for one in found if one is not None]


def abort(layout: OciLayout, ref: str) -> bool:
    """Give up a blob; returns whether there was one.

    Raises:
        RefLockedError: someone is writing it.
        TransferError: it cannot be removed.
    """
    if find(layout, ref) is None:
        return False
    ingest = layout.ingest(ref)
    try:
        ingest.discard()
    finally:
        ingest.close()
    if find(layout, ref) is not None:
        raise TransferError(f"cannot remove what was written to {layout.directory}")
    return True


def remove_stale(layout: OciLayout, age: float = STALE) -> None:
    """Remove what was not written to for ``age`` seconds, as far as that is possible."""
    limit = time.time() - age
    with suppress(TransferError, OSError), _ingests(layout) as ingests_fd:
        if ingests_fd is None:
            return
        for name in filter(_NAME.fullmatch, os.listdir(ingests_fd)):
            with suppress(TransferError, RefLockedError, OSError):
                _remove_if_older(layout, ingests_fd, name, limit)


def _remove_if_older(layout: OciLayout, ingests_fd: int, name: str, limit: float) -> None:
    directory_fd = open_directory(name.encode(), dir_fd=ingests_fd, to_list=False)
    try:
        newest = max(os.fstat(directory_fd).st_mtime, _changed(directory_fd))
        ingest = Ingest(layout, name, directory_fd, _text(directory_fd, "ref")) if newest < limit else None
    except BaseException:
        os.close(directory_fd)
        raise
    if ingest is None:
        os.close(directory_fd)
        return
    try:
        ingest.discard()
    finally:
        ingest.close()


def _changed(directory_fd: int) -> float:
    try:
        return os.stat("data", dir_fd=directory_fd, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0


@contextmanager
def _ingests(layout: OciLayout) -> Iterator[int | None]:
    """Open the directory of unfinished blobs; ``None`` if there is none."""
    try:
        with layout._root() as root_fd:
            descriptor: int | None = open_directory(b"ingest", dir_fd=root_fd, to_list=True)
    except OSError as error:
        if not is_gone(error):
            raise TransferError(f"cannot read {layout.directory}: {error.strerror}") from error
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _read(ingests_fd: int, name: str) -> Unfinished | None:
    """Read about one; ``None`` if it is gone, or not as it should be."""
    try:
        directory_fd = open_directory(name.encode(), dir_fd=ingests_fd, to_list=False)
    except OSError:
        return None
    try:
        data = os.stat("data", dir_fd=directory_fd, follow_symlinks=False)
        ref = _text(directory_fd, "ref")
        if hashlib.sha256(ref.encode()).hexdigest() != name:
            return None
        total, started = _text(directory_fd, "total"), _moment(_text(directory_fd, "startedat"))
        return Unfinished(ref, data.st_size, int(total) if total.isdigit() else 0, started, data.st_mtime_ns)
    except (OSError, ValueError):
        return None
    finally:
        os.close(directory_fd)


def _text(directory_fd: int, name: str) -> str:
    """The content of a small file, which may be damaged; empty if there is none."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd)
    except FileNotFoundError:
        return ""
    try:
        return os.read(descriptor, MAX_TEXT).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _moment(text: str) -> int:
    """Read a time as Go's programs write it; 0 if there is none."""
    if not text:
        return 0
    return int(datetime.fromisoformat(text).timestamp() * 1_000_000_000)
