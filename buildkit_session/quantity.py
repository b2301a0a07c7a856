"""Numbers as people write them, sizes with their units."""

from __future__ import annotations

import re
from typing import Final

from buildkit_session.errors import InputError

__all__ = ["read_count", "read_size"]

MAX_DIGITS: Final = 18
"""Of either part of a number: more than any disk needs, and quick to read."""

_DIGITS: Final = rf"[0-9]{{1,{MAX_DIGITS}}}"
_SIZE: Final = re.compile(rf"({_DIGITS}(?:\.{_DIGITS})?) ?(?:([kmgtp])(i?))?b?", re.IGNORECASE | re.ASCII)
_PREFIXES: Final = ("", "k", "m", "g", "t", "p")


def read_size(key: str, value: str, *, binary: bool = False) -> int:
    """Read a number of bytes.

    ``500``, ``1.5GB`` and ``10m`` are in powers of 1000, ``10GiB`` and ``64Ki`` in those of 1024. With ``binary`` all
    are in those of 1024, as in docker wherever it limits something.

    Raises:
        InputError: it is none, or no whole number of bytes; the text names ``key``.
    """
    from fractions import Fraction  # noqa: PLC0415 - few builds have a size to be read

    found = _SIZE.fullmatch(value)
    if found is None:
        raise InputError(f"invalid value {value!r} for {key}: expected a size such as 10GB or 512MiB")
    number, prefix, marked = found.groups("")
    size: Fraction = Fraction(number) * (1024 if binary or marked else 1000) ** _PREFIXES.index(prefix.lower())
    if size.denominator != 1:
        raise InputError(f"invalid value {value!r} for {key}: that is no whole number of bytes")
    return size.numerator


def read_count(key: str, value: str) -> int:
    """Read a number of things.

    Raises:
        InputError: it is none; the text names ``key``.
    """
    if not re.fullmatch(_DIGITS, value):
        raise InputError(f"invalid value {value!r} for {key}: expected a number")
    return int(value)
