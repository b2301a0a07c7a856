"""Lengths of time as Go writes them."""

from __future__ import annotations

import pytest

from buildkit_session.engine.durations import read_duration
from buildkit_session.errors import InputError

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1ns", 1),
        ("1.5us", 1500),
        ("2µs", 2000),
        ("2μs", 2000),
        ("250ms", SECOND // 4),
        ("90s", 90 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("1.h", 3600 * SECOND),
        (".5m", 30 * SECOND),
        ("-1m", -60 * SECOND),
        ("+24h0m0s", 86400 * SECOND),
        ("0.1ns", 0),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert read_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "h", "1d", "1h 30m", ".s", "- 1s", "\u0661s", "1s\n", "9" * 19 + "h"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(InputError, match="expected one such as 24h"):
        read_duration(text)
