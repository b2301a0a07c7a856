"""Sizes and times as text, in the spelling of BuildKit's plain progress.

Source: moby/buildkit:util/progress/progressui/printer.go, docker/go-units:size.go.
"""

from __future__ import annotations

__all__ = ["elapsed", "seconds", "size"]

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_NANOSECONDS = 1e9


def size(count: int) -> str:
    """Spell a number of bytes in powers of 1000: ``126B``, ``1.98MB``."""
    if count < 1000:
        return f"{count}B"
    power = min((len(str(count)) - 1) // 3, len(_UNITS))
    return f"{count / 1000**power:.2f}{_UNITS[power - 1]}"


def seconds(nanoseconds: int) -> str:
    """Spell the length of a step: ``2.0s``."""
    return f"{nanoseconds / _NANOSECONDS:.1f}s"


def elapsed(nanoseconds: int) -> str:
    """Spell the age of a log line in seconds, in about five characters: ``0.135``, ``12.35``, ``123.5``."""
    value = max(nanoseconds, 0) / _NANOSECONDS
    if value < 10:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 100 else f"{value:.1f}"
