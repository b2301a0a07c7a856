"""Blobs in an OCI image layout on disk: read by digest, and written under a name until their digest is proven.

.. code-block:: text

    blobs/<algorithm>/<hexadecimal digits>     whole blobs
    ingest/<SHA-256 of the name>/              one that is being written: data, ref, startedat, total, updatedat

This is what containerd's own store does, and docker buildx with it, so that each finds what the other left. The name
of a blob that is being written is locked by the file ``data``, against other processes too.

An unfinished blob that was cut off stays, to be gone on with; one that turns out to be damaged is thrown away, so that
the next try begins anew. containerd keeps that too, and every later try fails for it.

Everything here may block, and every path is reached from the layout's directory with no link followed. What ties the
blobs together is not dealt with here but in :mod:`~buildkit_session.services.oci_index`, and unfinished blobs as such
in :mod:`~buildkit_session.services.oci_ingests`.

Source: opencontainers/image-spec:image-layout.md; containerd/containerd:plugins/content/local/store.go, writer.go.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from buildkit_session.errors import QuotaExceeded, TransferError
from buildkit_session.fsutil.beneath import is_gone, open_directory, open_file
from buildkit_session.fsutil.content import write_all
from buildkit_session.fsutil.quota import UNLIMITED, Quota
from buildkit_session.services.digests import Digest
from buildkit_session.services.read_check import ReadCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buildkit_session.fsutil.content import Piece

__all__ = ["FULL", "BlobExistsError", "BlobMismatchError", "Ingest", "OciLayout", "RefLockedError"]

_REREAD: Final = 1024 * 1024
"""Bytes read at once of a blob that was begun earlier."""

MAX_UNFINISHED: Final = 1000
"""Unfinished blobs that one build may leave behind, to be gone on with; those beyond are dropped."""

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says of a full disk."""

_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class BlobExistsError(Exception):
    """The blob is there already, whole."""


class BlobMismatchError(Exception):
    """What was written is not what was announced; the text may go to the daemon."""


class RefLockedError(Exception):
    """Another call or another process writes under this name."""


class OciLayout:
    """The blobs of one layout.

    Args:
        directory: of the layout; made when the first blob is written. Links on the way to it are followed.
        writable: whether :meth:`ingest` may be used.
        quota: bounds what is written.

    Attributes:
        reads: checks what is read.
        unfinished: the refs under which this build has left something to be gone on with.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, writable: bool = False, quota: Quota | None = None
    ) -> None:
        self.directory = Path(directory).absolute()
        self.writable = writable
        self.quota = quota or Quota(UNLIMITED)
        self.reads = ReadCheck()
        self.unfinished: set[str] = set()

    def __repr__(self) -> str:
        return f"<OciLayout {self.directory}{' writable' if self.writable else ''}>"

    def open_blob(self, digest: Digest) -> int | None:
        """Open a blob for reading; returns its descriptor, which the caller closes, or ``None`` if it is not there.

        Raises:
            TransferError: it cannot be read.
        """
        try:
            with self._root() as root_fd:
                return open_file(root_fd, f"blobs/{digest.algorithm}/{digest.hex}".encode())
        except TransferError as error:
            if isinstance(error.__cause__, OSError) and is_gone(error.__cause__):
                return None
            raise
        except OSError as error:
            if is_gone(error):
                return None
            raise TransferError(f"cannot read {self.directory}: {error.strerror}") from error

    def size_of(self, digest: Digest) -> int | None:
        """The bytes of a blob, ``None`` if it is not there; raises as :meth:`open_blob`."""
        descriptor = self.open_blob(digest)
        if descriptor is None:
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def has(self, digest: Digest, size: int = 0) -> bool:
        """Whether the blob is there, and of the given size if one is known; raises as :meth:`open_blob`."""
        there = self.size_of(digest)
        return there is not None and size in (0, there)

    def ingest(self, ref: str) -> Ingest:
        """Begin to write a blob under a name, or go on with what was written under it before.

        Raises:
            RefLockedError: someone else is at it.
            TransferError: it cannot be written.
        """
        with self._accessing():
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._root() as root_fd:
                name = hashlib.sha256(ref.encode()).hexdigest()
                try:
                    directory_fd = _make_directories(root_fd, "ingest", name)
                except FileNotFoundError:
                    # Whoever was at it has finished between two of the steps here, and put its directory away.
                    raise RefLockedError from None
            try:
                return Ingest(self, name, directory_fd, ref)
            except BaseException:
                os.close(directory_fd)
                raise

    def abandon(self) -> None:
        """Remove what this build has left unfinished, as far as that is possible; for one that has succeeded."""
        for ref in list(self.unfinished):
            with suppress(TransferError, RefLockedError):
                ingest = self.ingest(ref)
                try:
                    ingest.discard()
                finally:
                    ingest.close()

    @contextmanager
    def _root(self) -> Iterator[int]:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _accessing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TransferError(f"cannot write to {self.directory}: {error.strerror}") from error


class Ingest:
    """A blob that is being written. Made by :meth:`OciLayout.ingest`; not for use by two threads at a time.

    Attributes:
        ref: the name it is written under.
        offset: bytes written so far.
        started: nanoseconds since the Unix epoch.
        updated: likewise, of the last write.
    """

    def __init__(self, layout: OciLayout, name: str, directory_fd: int, ref: str) -> None:
        self.ref = ref
        self._layout = layout
        self._name = name
        self._directory_fd = directory_fd
        self._algorithm = ""  # of the digest that is computed; none yet
        self._hash: Any = None
        self._kept = True  # for who goes on with it
        self._counted = False  # against the quota
        self._file = _open_locked(directory_fd)
        try:
            found = os.fstat(self._file)
            self.offset, self.updated = found.st_size, found.st_mtime_ns
            self.started = time.time_ns()
            self._resumed = self.offset > 0
            if not self.offset:
                _write_text(directory_fd, "ref", ref)
                _write_text(directory_fd, "startedat", _timestamp(self.started))
        except BaseException:
            os.close(self._file)
            raise

    def digest(self, algorithm: str = "") -> Digest:
        """The digest of what was written so far.

        Args:
            algorithm: the one used so far, or SHA-256, if it is empty. Another one than before reads everything again.

        Raises:
            TransferError: it cannot be read again.
        """
        algorithm = algorithm or self._algorithm or "sha256"
        if algorithm != self._algorithm:
            computed = hashlib.new(algorithm)
            with self._layout._accessing():
                for start in range(0, self.offset, _REREAD):
                    computed.update(os.pread(self._file, min(_REREAD, self.offset - start), start))
            self._algorithm, self._hash = algorithm, computed
        return Digest(algorithm, self._hash.hexdigest())

    def write(self, piece: Piece, algorithm: str = "") -> None:
        """Add a piece; ``algorithm`` as for :meth:`digest`.

        Raises:
            QuotaExceeded: it is more than may be written. What there was of the blob is dropped.
            TransferError: it cannot be written; on a full disk what there was is dropped as well.
        """
        self._count(len(piece))
        self.digest(algorithm)
        with self._layout._accessing():
            os.lseek(self._file, self.offset, os.SEEK_SET)
            try:
                write_all(self._file, (piece,))
            except OSError as error:
                if error.errno in FULL:
                    self.discard()  # nothing else makes room
                raise
        self._hash.update(piece)
        self.offset += len(piece)
        self.updated = time.time_ns()

    def restart(self) -> None:
        """Drop what was written. Raises as :meth:`write`."""
        with self._layout._accessing():
            os.ftruncate(self._file, 0)
        self.offset = 0
        self._resumed = False
        self._algorithm = ""

    def commit(self, total: int, expected: Digest | None) -> Digest:
        """Make a whole blob of what was written, if it is the right one; it is on disk afterwards.

        Args:
            total: its size in bytes; 0 if nobody knows.
            expected: its digest; ``None`` if nobody knows.

        Raises:
            BlobMismatchError: it is another one. What was written is dropped.
            BlobExistsError: it was there already. What was written is dropped.
            QuotaExceeded: as for :meth:`write`.
            TransferError: it cannot be written.
        """
        self._count(0)
        if total and total != self.offset:
            self.discard()
            raise BlobMismatchError(f"the blob has {self.offset} bytes, not {total}")
        digest = self.digest(expected.algorithm if expected else "")
        if expected and digest != expected:
            self.discard()
            hint = "; it was dropped, with what an earlier try had left of it: try again" if self._resumed else ""
            raise BlobMismatchError(f"the blob has the digest {digest}, not {expected}{hint}")
        if self._layout.has(digest, self.offset):
            self.discard()
            raise BlobExistsError
        with self._layout._accessing():
            self._move_to(digest)
        return digest

    def discard(self) -> None:
        """Remove what was written, as far as that is possible."""
        with suppress(OSError):  # it would take the place of why it is removed
            self._forget(lambda: os.unlink("data", dir_fd=self._directory_fd))

    def close(self, total: int = 0) -> None:
        """Release the name; what was written stays to be gone on with, unless it became a blob or was discarded.

        Args:
            total: the size of the whole blob as far as it is known, for other programs.
        """
        try:
            if self._kept:
                self._keep(total)
        finally:
            os.close(self._file)
            os.close(self._directory_fd)

    def _keep(self, total: int) -> None:
        unfinished = self._layout.unfinished
        if not self.offset or (len(unfinished) >= MAX_UNFINISHED and self.ref not in unfinished):
            self.discard()
            return
        unfinished.add(self.ref)
        with suppress(OSError):
            _write_text(self._directory_fd, "updatedat", _timestamp(self.updated))
            _write_text(self._directory_fd, "total", str(total))

    def _count(self, size: int) -> None:
        """Count against the quota what is about to be written, and the blob itself the first time."""
        try:
            if not self._counted:
                self._layout.quota.take_blob()
                self._counted = True
            self._layout.quota.take_bytes(size)
        except QuotaExceeded:
            # Nobody goes on with it: the next try would be refused as well.
            self.discard()
            raise

    def _move_to(self, digest: Digest) -> None:
        os.fsync(self._file)
        with self._layout._root() as root_fd:
            blobs_fd = _make_directories(root_fd, "blobs", digest.algorithm)
        try:
            self._forget(lambda: os.replace("data", digest.hex, src_dir_fd=self._directory_fd, dst_dir_fd=blobs_fd))
        finally:
            os.close(blobs_fd)
        os.fchmod(self._file, os.fstat(self._file).st_mode & 0o444)

    def _forget(self, take_data: Callable[[], None]) -> None:
        """Remove all there is under the name; the file that is the lock goes last, as its place is free then."""
        for name in ("ref", "startedat", "updatedat", "total"):
            with suppress(OSError):
                os.unlink(name, dir_fd=self._directory_fd)
        take_data()
        self._kept = False
        self._layout.unfinished.discard(self.ref)
        with suppress(OSError), self._layout._root() as root_fd:
            ingest_fd = open_directory(b"ingest", dir_fd=root_fd, to_list=False)
            try:
                os.rmdir(self._name, dir_fd=ingest_fd)
            finally:
                os.close(ingest_fd)


def _open_locked(directory_fd: int) -> int:
    """Open the file ``data`` and lock it.

    Raises:
        RefLockedError: it is locked, or was until now: then it may be a blob meanwhile, and its directory gone.
    """
    try:
        descriptor = os.open("data", _NEW, 0o644, dir_fd=directory_fd)
    except FileNotFoundError:
        raise RefLockedError from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = os.stat("data", dir_fd=directory_fd, follow_symlinks=False)
        if not os.path.samestat(os.fstat(descriptor), there):
            raise RefLockedError
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        raise RefLockedError from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make_directories(root_fd: int, *names: str) -> int:
    """Open a directory beneath, which is made if it is not there; returns its descriptor."""
    current = os.dup(root_fd)
    for name in names:
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=current)
            following = open_directory(name.encode(), dir_fd=current, to_list=False)
        finally:
            os.close(current)
        current = following
    return current


def _write_text(directory_fd: int, name: str, text: str) -> None:
    descriptor = os.open(name, _NEW | os.O_TRUNC, 0o644, dir_fd=directory_fd)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _timestamp(nanoseconds: int) -> str:
    """The time as Go's programs write it."""
    moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 1_000_000_000:09}Z"
