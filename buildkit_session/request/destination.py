"""Where an archive goes: a file, something to write to, or standard output."""

from __future__ import annotations

import io
import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.local_output import require_writable
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from buildkit_session.services.writers import AsyncWriter, ByteSender

    Writer: TypeAlias = "ByteWriter | AsyncWriter | ByteSender"

__all__ = ["STDOUT", "ByteWriter", "Stdout", "check_archive", "read_path", "require_destination"]


class ByteWriter(Protocol):
    """What an archive can be written to: a binary file, a pipe, an ``io.BytesIO``."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""


class Stdout(Enum):
    """Standard output, where ``None`` means something else."""

    STDOUT = "-"


STDOUT: Final = Stdout.STDOUT


def check_archive(dest: Path | Writer | Stdout | None, kind: str) -> None:
    """Raise InputError if the file cannot be written, or if the archive would go to a terminal.

    Args:
        dest: of the archive; ``None`` is standard output as well.
        kind: the type of the output, for errors.
    """
    if isinstance(dest, Path):
        _check_file(dest)
    elif dest is None or dest is STDOUT:
        _check_stream(sys.stdout, "standard output", kind)
    else:
        _check_stream(dest, "the destination", kind)
        if isinstance(dest, io.TextIOBase):
            raise InputError(f"the destination of a {kind} output must be a binary file, not a text file")


def require_destination(dest: object) -> None:
    """Raise InputError if ``dest`` is nothing that an archive can go to, of whatever kind."""
    if dest is None or dest is STDOUT or isinstance(dest, Path):
        return
    if not any(callable(getattr(dest, name, None)) for name in ("write", "send")):
        raise InputError(f"an archive goes to a path, or to what has write() or send(), not to {a_type(dest)}")


def read_path(dest: str | os.PathLike[str]) -> Path:
    """Take a path.

    Raises:
        InputError: it is empty, or none.
    """
    if not isinstance(dest, str | os.PathLike):
        raise InputError(f"the destination of an output must be a path, not {a_type(dest)}")
    if not os.fspath(dest):
        raise InputError("the destination of an output must not be empty")
    return Path(dest)


def _check_file(dest: Path) -> None:
    if dest.is_dir():
        raise InputError(f"destination file {dest} is a directory; name a file, or use type=local")
    if dest.exists():
        require_writable(dest, "destination file", dest)
    elif not dest.parent.is_dir():
        raise InputError(f"destination file {dest} cannot be made: there is no directory {dest.parent}")
    else:
        require_writable(dest.parent, "destination file", dest)


def _check_stream(stream: object, name: str, kind: str) -> None:
    if stream is None:
        raise InputError(f"{name} is closed; give a {kind} output a dest")
    if isinstance(stream, io.IOBase) and stream.isatty():
        raise InputError(f"{name} is a terminal, and a {kind} archive is not text; give a dest or redirect it")
