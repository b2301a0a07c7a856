"""The inputs of a build on this machine: the context directory and the Dockerfile.

Source: docker/buildx:build/opt.go (loadInputs).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Context"]


@dataclass(frozen=True, slots=True)
class Context:
    """A checked pair of context directory and Dockerfile.

    Attributes:
        directory: what ``COPY`` and ``ADD`` see.
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
            UnsupportedError: the context is standard input or a URL, which comes with a later version.
        """
        directory = _directory(os.fspath(context))
        dockerfile = _default_dockerfile(directory) if file is None else Path(file)
        _check_readable(dockerfile)
        return cls(directory, dockerfile.parent, dockerfile.name)

    @contextmanager
    def opened(self) -> Iterator[dict[str, int]]:
        """Open both directories, under the names by which the Dockerfile frontend asks for them."""
        descriptors: dict[str, int] = {}
        try:
            for name, path in (("context", self.directory), ("dockerfile", self.dockerfile_directory)):
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
        text = f"a context of {context!r} is not supported yet; check it out or unpack it and name the directory"
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
        raise UnsupportedError("a Dockerfile on standard input is not supported yet; write it to a file")
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
