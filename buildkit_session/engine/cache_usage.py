"""The build cache of a daemon: looking at it, and removing from it.

Source: docker/buildx:commands/diskusage.go, commands/prune.go; moby/buildkit:client/diskusage.go, client/prune.go.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from buildkit_session.engine.cache_records import CacheFilters, cache_record
from buildkit_session.engine.capabilities import FREE_SPACE, find_capabilities
from buildkit_session.errors import InputError, UnsupportedError
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_session.engine.cache_records import CacheRecord
    from buildkit_session.engine.control import Control
    from buildkit_session.engine.daemon import Link

__all__ = ["PruneLimits", "disk_usage", "prune", "with_keep_duration"]


@dataclass(frozen=True, slots=True)
class PruneLimits:
    """What is to stay; sizes are bytes, and 0 is no limit.

    Attributes:
        reserved_space: that much is kept in any case.
        max_used_space: more than that is not kept.
        min_free_space: the disk is to have that much free afterwards.
    """

    reserved_space: int = 0
    max_used_space: int = 0
    min_free_space: int = 0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be a number of bytes, not {getattr(self, name)}")


def with_keep_duration(filters: CacheFilters, keep: timedelta | None) -> CacheFilters:
    """Add an age to filters.

    Raises:
        InputError: there is one among them already, or it is negative.
    """
    if keep is None:
        return filters
    if filters.unused_for:
        raise InputError("keep_duration and the filter until= say the same: use one of them")
    if not isinstance(keep, timedelta):
        raise InputError(f"keep_duration must be a timedelta, such as timedelta(hours=24), not {a_type(keep)}")
    if keep.total_seconds() < 0:
        raise InputError("keep_duration must not be negative")
    microseconds = (keep.days * 86400 + keep.seconds) * 10**6 + keep.microseconds
    return replace(filters, unused_for=microseconds * 1000)


async def disk_usage(control: Control, filters: CacheFilters) -> list[CacheRecord]:
    """Return what the cache holds, the smallest first.

    Ages are judged by the clock of this machine: daemons before BuildKit 0.22 do not know how.
    """
    expression = [filters.expression] if filters.expression else []
    records = [cache_record(record) for record in await control.disk_usage(expression)]
    if filters.unused_for:
        latest = time.time_ns() - filters.unused_for
        records = [record for record in records if record.last_used is None or record.last_used <= latest]
    return sorted(records, key=lambda record: (record.size, record.id))


async def prune(
    link: Link,
    filters: CacheFilters,
    limits: PruneLimits,
    *,
    everything: bool,
    on_record: Callable[[CacheRecord], object] | None = None,
) -> list[CacheRecord]:
    """Remove from the cache, and return what has gone.

    Args:
        link: to the daemon.
        filters: what may go.
        limits: what is to stay.
        everything: whether frontends, and what only the daemon itself uses, may go too.
        on_record: called with each record as it goes.

    Raises:
        UnsupportedError: the daemon does not know a limit: it would remove what the limit keeps.
    """
    if limits.max_used_space or limits.min_free_space:
        await _require_limits(link)
    request = v1.PruneRequest(
        filter=[filters.expression] if filters.expression else [],
        all=everything,
        keep_duration=filters.unused_for,
        reserved_space=limits.reserved_space,
        max_used_space=limits.max_used_space,
        min_free_space=limits.min_free_space,
    )
    removed: list[CacheRecord] = []
    async with link.control.prune(request) as call:
        while (sent := await call.recv()) is not None:
            removed.append(cache_record(sent))
            if on_record is not None:
                on_record(removed[-1])
    return removed


async def _require_limits(link: Link) -> None:
    if FREE_SPACE not in await find_capabilities(link):
        raise UnsupportedError(feature="pruning with max_used_space or min_free_space", needs="BuildKit 0.17")
