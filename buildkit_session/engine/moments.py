"""Points in time as RFC 3339 has them, exact to the nanosecond: ``2025-01-31T12:00:00.5Z``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["format_moment", "read_moment"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = -62135596800 * 10**9
_LAST: Final = 253402300800 * 10**9 - 1
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def read_moment(text: str) -> int:
    """Read a point in time, in nanoseconds since the Unix epoch.

    Raises:
        ValueError: it has another form.
    """
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no time such as 2025-01-31T12:00:00Z")
    moment = datetime.fromisoformat(f"{found[1]}{found[3]}".upper())
    return (moment - _EPOCH) // timedelta(seconds=1) * 10**9 + int((found[2] or "").ljust(9, "0"))


def format_moment(nanoseconds: int) -> str:
    """Write a point in time in UTC, without zeros at its end, as Go's RFC3339Nano does.

    What lies outside of the years 1 to 9999, for a daemon can name any time, becomes the first or the last moment.
    """
    seconds, rest = divmod(min(max(nanoseconds, _FIRST), _LAST), 10**9)
    fraction = f".{rest:09}".rstrip("0").rstrip(".")
    return f"{(_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()}{fraction}Z"
