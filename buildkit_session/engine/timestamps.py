"""Points in time, in nanoseconds since the Unix epoch: of RFC 3339 (``2025-01-31T12:00:00.5Z``) and of protobuf."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from buildkit_session.messages.nanotime import Timestamp

__all__ = ["format_timestamp", "nanoseconds", "read_timestamp"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = -62135596800 * 10**9
_LAST: Final = 253402300800 * 10**9 - 1
_TIMESTAMP: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def read_timestamp(text: str) -> int:
    """Read a point in time, in nanoseconds since the Unix epoch.

    Raises:
        ValueError: it has another form.
    """
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no time such as 2025-01-31T12:00:00Z")
    moment = datetime.fromisoformat(f"{found[1]}{found[3]}".upper())
    return (moment - _EPOCH) // timedelta(seconds=1) * 10**9 + int((found[2] or "").ljust(9, "0"))


def format_timestamp(since_epoch: int) -> str:
    """Write a point in time in UTC, without zeros at its end, as Go's RFC3339Nano does.

    What lies outside of the years 1 to 9999, for a daemon can name any time, becomes the first or the last moment.
    """
    seconds, rest = divmod(min(max(since_epoch, _FIRST), _LAST), 10**9)
    fraction = f".{rest:09}".rstrip("0").rstrip(".")
    return f"{(_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()}{fraction}Z"


def nanoseconds(time: Timestamp | None) -> int | None:
    """Take a point in time as a daemon sends it; ``None`` where it sends none."""
    return None if time is None else time.seconds * 10**9 + time.nanos
