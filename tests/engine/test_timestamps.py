"""Points in time, exact to the nanosecond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.engine.timestamps import format_timestamp, read_timestamp


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.25Z", -750_000_000),
        ("2026-11-25T17:51:30.77118845z", 1_795_629_090_771_188_450),
    ],
)
def test_reading(text: str, nanoseconds: int) -> None:
    assert read_timestamp(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "2026-11-25", "2026-11-25T17:51:30", "2026-13-25T17:51:30Z", "2026-11-25T17:51:30.Z", "24h"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time such as|month"):
        read_timestamp(text)


@given(st.integers(0, 4 * 10**18))
def test_what_is_written_can_be_read(nanoseconds: int) -> None:
    text = format_timestamp(nanoseconds)
    assert read_timestamp(text) == nanoseconds
    assert not text.endswith(("0Z", ".Z")) or "." not in text
