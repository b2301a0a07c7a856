"""A context that is a directory, with the Dockerfile that belongs to it: found, planned and digested.

Source: docker/buildx:build/opt.go (loadInputs).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buildkit_session.fsutil.digest import Permissions
    from buildkit_session.fsutil.dockerignore import IgnoreFile
    from buildkit_session.plan import Plan

__all__ = ["Context", "open_directories"]

HUGE_FILE: Final = 100 * 1024 * 1024
"""Bytes from which a single file is worth a warning."""

MANY_FILES: Final = 50_000
"""Files from which their number is worth a warning: listing them alone takes seconds."""


@dataclass(frozen=True, slots=True)
class Context:
    """A checked pair of context directory and Dockerfile.

    Attributes:
        directory: what ``COPY`` and ``ADD`` see; absolute, so that it has a name however it was written.
        dockerfile_directory: holds the Dockerfile, which may lie outside the context; ``<name>.dockerignore`` is looked
            for beside it.
        dockerfile: its name in there.
    """

    directory: Path
    dockerfile_directory: Path
    dockerfile: str

    @classmethod
    def find(cls, context: str | os.PathLike[str], file: str | os.PathLike[str] | None = None) -> Context:
        """Check what a build needs before anything is sent.

        Args:
            context: a directory.
            file: the Dockerfile, counted from the working directory; ``Dockerfile`` in the context by default, or
                ``dockerfile`` where only that exists.

        Raises:
            InputError: something is missing or cannot be read.
            UnsupportedError: the context or the Dockerfile is standard input, or the context a URL: nothing is known of
                these before a build.
        """
        directory = _directory(os.fspath(context))
        dockerfile = _default_dockerfile(directory) if file is None else Path(file)
        _check_readable(dockerfile)
        return cls(directory.resolve(), dockerfile.parent, dockerfile.name)

    @staticmethod
    def directory_of(context: str | os.PathLike[str]) -> Path:
        """Check a directory alone, for a build whose Dockerfile comes from elsewhere; raises as :meth:`find`."""
        return _directory(os.fspath(context)).resolve()

    @staticmethod
    def check_dockerfile(file: Path) -> None:
        """Check a Dockerfile alone, for a build whose context comes from elsewhere; raises as :meth:`find`."""
        _check_readable(file)

    @contextmanager
    def opened(self) -> Iterator[dict[str, int]]:
        """Open both directories, under the names by which the Dockerfile frontend asks for them."""
        directories = {"context": self.directory, "dockerfile": self.dockerfile_directory}
        with open_directories(directories) as descriptors:
            yield descriptors

    def plan(self, *, huge_file: int = HUGE_FILE, many_files: int = MANY_FILES) -> Plan:
        """Find out what a build would send of the context, and what looks wrong about it; see :class:`Plan`.

        No daemon is asked. Blocks while the context is read: call it in a thread. Only names are read, and the
        beginning of small files; what is ignored is not entered. What cannot be read becomes a warning.

        Args:
            huge_file: bytes from which a file is warned about.
            many_files: number of files from which it is warned about.

        Raises:
            InputError: a directory cannot be opened, or a line of the ignore file is malformed.
            TransferError: the ignore file cannot be read.
        """
        from buildkit_session.planning import make_plan  # noqa: PLC0415 - a build plans nothing

        with self.opened() as descriptors:
            ignore_file = self._ignore_file(descriptors)
            return make_plan(descriptors["context"], ignore_file, huge_file=huge_file, many_files=many_files)

    def digest(self, *, permissions: Permissions = "portable") -> str:
        """Return one value for all that a build would send of the context: the same on every machine.

        It changes when a name, a kind, a content, the target of a link or the permission to execute a file changes;
        with ``permissions="exact"`` with every permission bit, which differs between checkouts made with another umask.
        Times, owners, extended attributes, hard links and ignored files do not count. The Dockerfile counts only if it
        is one of the files of the context. For what exactly is counted see
        :func:`~buildkit_session.fsutil.digest.digest_tree`.

        Blocks while all files are read: call it in a thread.

        Returns:
            ``bks1:sha256:`` and 64 hexadecimal digits; ``bks1-exact:sha256:...`` for exact permissions. The first
            part changes whenever the way of counting does.

        Raises:
            InputError: as :meth:`plan`.
            TransferError: something that would be sent cannot be read.
        """
        from buildkit_session.fsutil.digest import digest_tree  # noqa: PLC0415 - a build does without
        from buildkit_session.fsutil.filter import Filter  # noqa: PLC0415

        with self.opened() as descriptors:
            ignore_file = self._ignore_file(descriptors)
            filtered = Filter(exclude=ignore_file.patterns if ignore_file else ())
            return digest_tree(descriptors["context"], filtered, permissions=permissions)

    def _ignore_file(self, descriptors: Mapping[str, int]) -> IgnoreFile | None:
        # Here, not above: to a build the daemon applies the file.
        from buildkit_session.fsutil.dockerignore import read_ignore_file  # noqa: PLC0415

        return read_ignore_file(
            context=descriptors["context"],
            dockerfile_directory=descriptors["dockerfile"],
            dockerfile=self.dockerfile,
        )


@contextmanager
def open_directories(directories: Mapping[str, Path]) -> Iterator[dict[str, int]]:
    """Open directories to share, under the same names.

    Raises:
        InputError: one of them cannot be opened.
    """
    descriptors: dict[str, int] = {}
    try:
        for name, path in directories.items():
            descriptors[name] = _open_directory(path)
        yield descriptors
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _directory(context: str) -> Path:
    path = Path(context)
    if path.is_dir():
        return path
    if context == "-" or "://" in context or context.startswith(("git@", "github.com/")):
        text = f"a plan is made of a directory, not of {context!r}; check it out or unpack it and name the directory"
        raise UnsupportedError(text)
    if path.exists():
        raise InputError(f"unable to prepare context: {context} is not a directory; name the directory that holds it")
    raise InputError(f'unable to prepare context: path "{context}" not found')


def _default_dockerfile(directory: Path) -> Path:
    path = directory / "Dockerfile"
    if not path.exists() and (lower := directory / "dockerfile").exists():
        return lower
    return path


def _check_readable(dockerfile: Path) -> None:
    hint = "name another one with -f (file=)"
    if str(dockerfile) == "-":
        raise UnsupportedError(
            "a plan needs a Dockerfile that is a file, as its ignore file lies beside it; write it to one"
        )
    if dockerfile.is_dir():
        raise InputError(f"failed to read dockerfile: {dockerfile} is a directory; {hint}")
    try:
        with dockerfile.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"failed to read dockerfile: open {dockerfile}: {error.strerror}; {hint}") from error


def _open_directory(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"unable to prepare context: open {path}: {error.strerror}") from error
