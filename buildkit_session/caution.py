"""What about a context is worth a warning before it is sent."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.beneath import transfer_error
from buildkit_session.fsutil.odd_names import is_utf8
from buildkit_session.fsutil.sensitive import by_content, by_name, bytes_to_see
from buildkit_session.plan import PlannedKind, PlanWarning, PlanWarningKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.fsutil.beneath import FileOpener
    from buildkit_session.fsutil.dockerignore import IgnoreFile
    from buildkit_session.plan import DirectoryTotal, PlannedEntry

__all__ = ["about_context", "about_entry", "about_name", "about_target", "about_unreadable"]

_ADVICE: Final = {
    PlanWarningKind.PRIVATE_KEY: "looks like a private key; ignore it, or give it to the build as a secret",
    PlanWarningKind.ENVIRONMENT: "often holds passwords; ignore it, or give it to the build as a secret",
    PlanWarningKind.CREDENTIALS: "tools keep passwords or tokens in it; ignore it, or give it to the build as a secret",
    PlanWarningKind.VERSION_CONTROL: "holds the whole history, also of files that were removed; ignore it",
    PlanWarningKind.NAME_NOT_UTF8: (
        "the name is not UTF-8, which newer daemons refuse; rename it, or ignore it with a ? for each odd byte"
    ),
}
_VERSION_CONTROL: Final = frozenset({b".git", b".hg", b".svn", b".bzr"})
_BY_SENSITIVITY: Final = {
    "private-key": PlanWarningKind.PRIVATE_KEY,
    "environment": PlanWarningKind.ENVIRONMENT,
    "credentials": PlanWarningKind.CREDENTIALS,
}


def about_context(ignore_file: IgnoreFile | None, total: DirectoryTotal, *, many_files: int) -> Iterator[PlanWarning]:
    """Warn about the context as a whole."""
    if ignore_file is None:
        advice = "there is no .dockerignore, so nothing is left out; write one"
        yield PlanWarning(PlanWarningKind.NO_IGNORE_FILE, None, advice)
    if total.files >= many_files:
        advice = f"{total.files} files are listed for every build; ignore those that it does not need"
        yield PlanWarning(PlanWarningKind.MANY_FILES, None, advice)


def about_entry(entry: PlannedEntry, path: bytes, opener: FileOpener, *, huge_file: int) -> Iterator[PlanWarning]:
    """Warn about one entry; a file is opened, to see whether it can be, and how it begins."""
    if not is_utf8(path.rpartition(b"/")[2]):
        yield _advise(PlanWarningKind.NAME_NOT_UTF8, entry.path)
    if entry.kind in {PlannedKind.FIFO, PlannedKind.DEVICE}:
        advice = f"a {entry.kind} is sent as such, which few builds can use; ignore it"
        yield PlanWarning(PlanWarningKind.SPECIAL_FILE, entry.path, advice)
    if entry.kind in {PlannedKind.FILE, PlannedKind.HARDLINK}:
        yield from _about_file(entry, path, opener, huge_file=huge_file)


def about_target(path: bytes, target: bytes) -> PlanWarning | None:
    """Warn about the symbolic link ``path`` if it leads to a name that daemons may refuse like an entry's own."""
    if is_utf8(target):
        return None
    advice = "the link leads to a name that is not UTF-8, which newer daemons refuse; change or ignore it"
    return PlanWarning(PlanWarningKind.NAME_NOT_UTF8, _text(path), advice)


def about_name(path: bytes, directory: int) -> PlanWarning | None:
    """Warn about ``path``, an entry of the open ``directory``, if it is the folder of a version control system."""
    name = path.rpartition(b"/")[2]
    if name not in _VERSION_CONTROL or not _is_directory(name, directory):
        return None
    return _advise(PlanWarningKind.VERSION_CONTROL, _text(path))


def about_unreadable(error: TransferError) -> PlanWarning:
    """Turn the error of a transfer into a warning."""
    path = None if error.path is None else _text(error.path)
    return PlanWarning(PlanWarningKind.UNREADABLE, path, f"{error}; a build that asks for it fails")


def _about_file(entry: PlannedEntry, path: bytes, opener: FileOpener, *, huge_file: int) -> Iterator[PlanWarning]:
    if entry.size >= huge_file:
        advice = f"the file has {entry.size} bytes; ignore it if the build does not need it"
        yield PlanWarning(PlanWarningKind.HUGE_FILE, entry.path, advice)
    try:
        is_socket, content = _look_into(entry, path, opener)
    except TransferError as error:
        yield about_unreadable(error)
        sensitivity = by_name(entry.path)
    else:
        if is_socket:
            advice = "a socket is sent as an empty file; ignore it"
            yield PlanWarning(PlanWarningKind.SPECIAL_FILE, entry.path, advice)
        sensitivity = by_content(entry.path, content)
    if sensitivity is not None:
        yield _advise(_BY_SENSITIVITY[sensitivity], entry.path)


def _look_into(entry: PlannedEntry, path: bytes, opener: FileOpener) -> tuple[bool, bytes]:
    """Open a file as the transfer would; return whether it is a socket, and as much of it as is worth looking at."""
    descriptor = opener.open(path)
    try:
        found = os.fstat(descriptor)
        content = os.read(descriptor, bytes_to_see(entry.path, found.st_size))
    except OSError as error:
        raise transfer_error("read", path, error.strerror) from error
    finally:
        os.close(descriptor)
    # The opener gives the null device for a socket.
    return stat.S_ISCHR(found.st_mode), content


def _is_directory(name: bytes, directory: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:  # gone by now
        return False


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _advise(kind: PlanWarningKind, path: str) -> PlanWarning:
    return PlanWarning(kind, path, _ADVICE[kind])
