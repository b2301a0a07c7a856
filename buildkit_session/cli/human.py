"""Sizes and times as docker's tables spell them.

Source: docker/go-units:size.go (HumanSize), duration.go (HumanDuration); docker/buildx:commands/history/utils.go
(formatDuration); golang/go:src/time/format.go (String).
"""

from __future__ import annotations

from typing import Final

from buildkit_session.engine.timestamps import format_timestamp

__all__ = ["age", "length", "moment", "size"]

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_SECOND: Final = 10**9
_MINUTE, _HOUR, _DAY = 60, 3600, 24


def size(count: int) -> str:
    """Spell a number of bytes in powers of 1000 and four digits: ``300kB``, ``4.096kB``."""
    value, power = float(count), 0
    while value >= 1000 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.4g}{_UNITS[power]}"


def age(nanoseconds: int) -> str:
    """Say how long ago something was: ``3 weeks``."""
    seconds = max(nanoseconds, 0) // _SECOND
    if seconds < 1:
        return "Less than a second"
    if seconds < _MINUTE:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    if seconds < _HOUR:
        return "About a minute" if seconds < 2 * _MINUTE else f"{seconds // _MINUTE} minutes"
    hours = int(max(nanoseconds, 0) / _SECOND / _HOUR + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, unit, name in ((48, 1, "hours"), (14 * _DAY, _DAY, "days"), (60 * _DAY, 7 * _DAY, "weeks")):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{hours // (30 * _DAY)} months" if hours < 730 * _DAY else f"{seconds // _HOUR // (365 * _DAY)} years"


def length(nanoseconds: int) -> str:
    """Say how long something took: ``0.6s``, ``3m  7s``."""
    if nanoseconds < _MINUTE * _SECOND:
        return f"{nanoseconds / _SECOND:.1f}s"
    minutes, seconds = divmod(nanoseconds // _SECOND, _MINUTE)
    return f"{minutes}m {seconds:2}s"


def moment(nanoseconds: int) -> str:
    """Spell a point in time as Go prints one: ``2025-01-31 12:00:00.5 +0000 UTC``."""
    return f"{format_timestamp(nanoseconds)[:-1].replace('T', ' ')} +0000 UTC"
