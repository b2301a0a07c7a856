"""Records of the build cache, and the filters that choose among them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from buildkit_session.engine.cache_records import CacheFilters, CacheRecord, cache_record, read_cache_filters
from buildkit_session.engine.cache_usage import PruneLimits, with_keep_duration
from buildkit_session.errors import InputError
from buildkit_session.messages.moby.buildkit.v1 import UsageRecord
from buildkit_session.messages.nanotime import Timestamp

HOUR = 3600 * 10**9


def test_all_of_a_record() -> None:
    sent = UsageRecord(
        id="a",
        mutable=True,
        in_use=True,
        size=7,
        parents=["b", "c"],
        created_at=Timestamp(seconds=1, nanos=2),
        last_used_at=Timestamp(seconds=3),
        usage_count=4,
        description="RUN x",
        record_type="regular",
        shared=True,
    )
    assert cache_record(sent) == CacheRecord(
        "a",
        "regular",
        "RUN x",
        7,
        1_000_000_002,
        3_000_000_000,
        4,
        mutable=True,
        in_use=True,
        shared=True,
        parents=("b", "c"),
    )
    assert not cache_record(sent).reclaimable


def test_a_record_of_an_old_daemon_has_one_parent() -> None:
    record = cache_record(UsageRecord(id="a", parent="b"))
    assert record == CacheRecord("a", parents=("b",))
    assert record.reclaimable


@pytest.mark.parametrize(
    ("texts", "filters"),
    [
        ([], CacheFilters()),
        (["type=regular"], CacheFilters("type==regular")),
        (["id=abc"], CacheFilters("id~=abc")),
        (["type!=regular"], CacheFilters("type!=regular")),
        (["description~=npm"], CacheFilters("description~=npm")),
        (["Type = regular", "inuse=false"], CacheFilters("inuse==false,type==regular")),
        (["until=1h"], CacheFilters("", HOUR)),
        (["unused-for=1h", "type=regular"], CacheFilters("type==regular", HOUR)),
        (["type=a", "type=a"], CacheFilters("type==a")),
        (["id=a=b"], CacheFilters("id~=a=b")),
    ],
)
def test_filters(texts: list[str], filters: CacheFilters) -> None:
    assert read_cache_filters(texts) == filters


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["type"], "expected name=value"),
        (["=regular"], "expected name=value"),
        (["type=a", "type=b"], '"type" filter expects only one value'),
        (["until=1h", "unused-for=1h"], 'conflicting filters "until" and "unused-for"'),
        (["until=yesterday"], r"\"until\" filter expects a duration \(e.g., '24h'\)"),
    ],
)
def test_wrong_filters(texts: list[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_cache_filters(texts)


def test_a_duration_is_a_filter() -> None:
    filters = CacheFilters("type==regular")
    assert with_keep_duration(filters, None) is filters
    assert with_keep_duration(filters, timedelta(hours=1)) == CacheFilters("type==regular", HOUR)
    with pytest.raises(InputError, match="use one of them"):
        with_keep_duration(CacheFilters("", HOUR), timedelta(hours=1))
    with pytest.raises(InputError, match="negative"):
        with_keep_duration(filters, timedelta(hours=-1))


def test_limits_are_not_negative() -> None:
    with pytest.raises(InputError, match="min_free_space must be a number of bytes, not -1"):
        PruneLimits(min_free_space=-1)
