"""Sizes and times as docker spells them; the comparison with docker itself is in tests/e2e."""

from __future__ import annotations

import pytest

from buildkit_session.cli import human

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (4096, "4.096kB"),
        (617_101, "617.1kB"),
        (999_999, "1000kB"),
        (3_000_000_000, "3GB"),
        (10**27, "1000YB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert human.size(count) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (-5, "Less than a second"),
        (SECOND - 1, "Less than a second"),
        (SECOND, "1 second"),
        (59 * SECOND, "59 seconds"),
        (60 * SECOND, "About a minute"),
        (119 * SECOND, "About a minute"),
        (59 * 60 * SECOND, "59 minutes"),
        (HOUR, "About an hour"),
        (HOUR + HOUR // 2, "2 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_ages(nanoseconds: int, text: str) -> None:
    assert human.age(nanoseconds) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0.0s"), (640_000_000, "0.6s"), (59 * SECOND, "59.0s"), (60 * SECOND, "1m  0s"), (3754 * SECOND, "62m 34s")],
)
def test_lengths(nanoseconds: int, text: str) -> None:
    assert human.length(nanoseconds) == text


def test_moments() -> None:
    assert human.moment(1_795_629_090_771_188_450) == "2026-11-25 17:51:30.77118845 +0000 UTC"
    assert human.moment(0) == "1970-01-01 00:00:00 +0000 UTC"
