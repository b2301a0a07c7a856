"""Words that errors share: what somebody meant who has misspelt a name, and what somebody gave in place of a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["a_type", "did_you_mean", "nearest"]

_ALIKE: Final = 0.75
"""How much of two names must agree, from 0 to 1; ``tag`` and ``tags`` agree by 0.86."""


def a_type(value: object) -> str:
    """Name the type of a value, with its article: ``an int``, ``a str``."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


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
