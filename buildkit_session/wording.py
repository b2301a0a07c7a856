"""Words that errors share: what somebody meant, what somebody gave in place of a value, and where code has failed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["a_path", "a_type", "did_you_mean", "kind_and_place", "nearest"]

_PACKAGE: Final = Path(__file__).parent

_ALIKE: Final = 0.75
"""How much of two names must agree, from 0 to 1; ``tag`` and ``tags`` agree by 0.86."""


def a_type(value: object) -> str:
    """Name the type of a value, with its article: ``an int``, ``a str``."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


def a_path(what: str, value: object) -> str | bytes:
    """Return a path as a text, which may be empty.

    Args:
        what: takes it, for the error.
        value: what was given.

    Raises:
        InputError: it is no path.
    """
    try:
        return os.fspath(value)  # type: ignore[call-overload, no-any-return]  # what is tried
    except TypeError:
        raise InputError(f"{what} must be a path, not {a_type(value)}") from None


def kind_and_place(error: BaseException) -> str:
    """The type of an exception that was caught here, and the line that it left the caller's function by.

    Such as ``KeyError at vault.py:12``; never its text, which may hold a secret. A function that does not take what it
    is called with, and one that was not written in Python, has no such line: ``TypeError as it was called``.
    """
    from traceback import extract_tb  # noqa: PLC0415 - only failures need it

    frame = next((one for one in extract_tb(error.__traceback__) if not _is_ours(Path(one.filename))), None)
    kind = type(error).__name__
    return f"{kind} as it was called" if frame is None else f"{kind} at {Path(frame.filename).name}:{frame.lineno}"


def _is_ours(path: Path) -> bool:
    return _PACKAGE in path.parents or "anyio" in path.parts


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like ``word``, or ``None`` if none is."""
    from difflib import get_close_matches  # noqa: PLC0415 - only mistakes need it

    return next(iter(get_close_matches(word, known, n=1, cutoff=_ALIKE)), None)


def did_you_mean(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return the end of a message that names the nearest known name, or nothing if there is none.

    Args:
        word: what was written.
        known: what it may be.
        prefix: stands before a name where it is written, such as ``--``.
    """
    meant = nearest(word, known)
    return f"; did you mean {prefix}{meant}?" if meant else ""
