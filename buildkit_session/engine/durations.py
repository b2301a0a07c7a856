"""Lengths of time as Go programs write them: ``24h``, ``1h30m``, ``1.5s``.

Source: golang/go:src/time/format.go (ParseDuration).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from buildkit_session.errors import InputError

__all__ = ["read_duration"]

_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
# Nine digits of hours are longer than Go can count.
_PART: Final = r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(ns|us|µs|μs|ms|s|m|h)"
_WHOLE: Final = re.compile(rf"([+-]?)((?:{_PART}){{1,16}})", re.ASCII)
_PARTS: Final = re.compile(_PART, re.ASCII)


def read_duration(text: str) -> int:
    """Read a length of time, in nanoseconds.

    Raises:
        InputError: it is none; the text shows one.
    """
    if text in {"0", "+0", "-0"}:
        return 0
    found = _WHOLE.fullmatch(text)
    if found is None:
        raise InputError(f"invalid duration {text!r}: expected one such as 24h or 1h30m")
    length = sum(Fraction(number.rstrip(".")) * _UNITS[unit] for number, unit in _PARTS.findall(found[2]))
    return -int(length) if found[1] == "-" else int(length)
