"""Filters of a history choose the builds that buildx's choose."""

from __future__ import annotations

import pytest

from buildkit_session.engine.history_filters import read_history_filters
from buildkit_session.engine.history_values import BuildRecord
from buildkit_session.errors import InputError

SECOND = 10**9
NOW = 1000 * SECOND

BUILDS = [
    BuildRecord("done", created=100 * SECOND, completed=160 * SECOND, frontend_attrs={"vcs:source": "https://x/y.git"}),
    BuildRecord("failed", created=900 * SECOND, completed=901 * SECOND, error="no", error_code=2),
    BuildRecord("stopped", created=950 * SECOND, completed=990 * SECOND, error="x: context canceled", error_code=2),
    BuildRecord("running", created=999 * SECOND, frontend_attrs={"context": "https://x/z.git#main:sub"}),
]


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        ([], "done failed stopped running"),
        (["status=error"], "failed"),
        (["status!=error"], "done stopped running"),
        (["status=canceled"], "stopped"),
        (["status=running"], "running"),
        (["ref=ne"], "done"),
        (["ref!=ne"], "done failed stopped running"),
        (["ref!=done"], "failed stopped running"),
        (["repository=https://x"], "done running"),
        (["repository=https://x/z.git"], "running"),
        (["startedAt<2m"], "done"),
        (["startedAt>=2m"], "failed stopped running"),
        (["startedAt>1970-01-01T00:15:00Z"], "stopped running"),
        (["startedAt>=1970-01-01T00:15:00Z"], "failed stopped running"),
        (["completedAt>10m"], "failed stopped"),
        (["duration>1s"], "done stopped"),
        (["duration<=1m", "status=completed"], "done"),
        (["duration<1m", "status=completed"], ""),
    ],
)
def test_choice(texts: list[str], chosen: str) -> None:
    meant = read_history_filters(texts, now=NOW)
    assert [record.ref for record in BUILDS if meant(record)] == chosen.split()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x", 'invalid filter "x"'),
        ("status=bogus", 'invalid status in "status=bogus", expected running, completed, error, canceled'),
        ("x=1", 'unsupported filter "x=1"'),
        ("status<3", 'invalid separator for "status<3", expected = or !='),
        ("duration=3s", 'invalid separator for "duration=3s", expected <=, <, >= or >'),
        ("duration>x", "invalid duration 'x'"),
        ("startedAt>x", "invalid time x"),
        ("startedAt>2026-11-25", "invalid time 2026-11-25"),
    ],
)
def test_wrong_filters(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_history_filters([text], now=NOW)
