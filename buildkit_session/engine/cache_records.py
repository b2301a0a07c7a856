"""What the build cache of a daemon holds, as values, and which of it is meant.

Filters are those of ``docker buildx du`` and ``prune``: ``type=regular``, ``id=abc`` (a part of it), ``inuse=true``,
``description~=npm``, ``until=24h``; all of them must hold. The daemon has a language of its own for them.

Source: docker/buildx:commands/prune.go (toBuildkitPruneInfo); moby/buildkit:cache/manager.go (adaptUsageInfo),
api/services/control/control.proto (UsageRecord).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_session.engine.durations import read_duration
from buildkit_session.engine.timestamps import nanoseconds
from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.messages.moby.buildkit import v1 as wire

__all__ = ["CacheFilters", "CacheRecord", "cache_record", "read_cache_filters"]

_AGES: Final = ("until", "unused-for")  # the second is the older name of the first


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """A piece of the build cache. Times are nanoseconds since the Unix epoch, on the daemon's clock.

    Attributes:
        id: under which the daemon keeps it.
        type: ``regular`` for the result of a step; ``source.local``, ``source.git.checkout``, ``exec.cachemount``,
            ``frontend``, ``internal``. Of what was pruned the daemon does not tell it.
        description: the step it came from.
        size: in bytes.
        created: when it was made, or ``None``.
        last_used: when a build used it last, or ``None``.
        usage_count: how many builds have used it.
        mutable: whether it may still change, as a cache mount does.
        in_use: whether a build holds it now; it cannot be removed then.
        shared: whether images or other records share its content.
        parents: ids of the records below it.
    """

    id: str
    type: str = ""
    description: str = ""
    size: int = 0
    created: int | None = None
    last_used: int | None = None
    usage_count: int = 0
    mutable: bool = False
    in_use: bool = False
    shared: bool = False
    parents: tuple[str, ...] = ()

    @property
    def reclaimable(self) -> bool:
        """Whether it could be removed now."""
        return not self.in_use


@dataclass(frozen=True, slots=True)
class CacheFilters:
    """Which records are meant.

    Attributes:
        expression: in the daemon's language; empty for all.
        unused_for: nanoseconds for which no build has used them; 0 for any.
    """

    expression: str = ""
    unused_for: int = 0


def cache_record(record: wire.UsageRecord) -> CacheRecord:
    """Make a value out of what the daemon sent."""
    parents = tuple(record.parents) or ((record.parent,) if record.parent else ())
    return CacheRecord(
        id=record.id,
        type=record.record_type,
        description=record.description,
        size=record.size,
        created=nanoseconds(record.created_at),
        last_used=nanoseconds(record.last_used_at),
        usage_count=record.usage_count,
        mutable=record.mutable,
        in_use=record.in_use,
        shared=record.shared,
        parents=parents,
    )


def read_cache_filters(texts: Iterable[str]) -> CacheFilters:
    """Read filters as a person writes them.

    Raises:
        InputError: one has another form, or two contradict each other.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not equals or not name:
            raise InputError(f"bad format of filter {text!r} (expected name=value)")
        if found.setdefault(name, value) != value:
            raise InputError(f'"{name}" filter expects only one value')
    ages = [name for name in _AGES if name in found]
    if len(ages) > 1:
        raise InputError('conflicting filters "until" and "unused-for"')
    unused_for = _age(ages[0], found.pop(ages[0])) if ages else 0
    return CacheFilters(",".join(_condition(name, value) for name, value in sorted(found.items())), unused_for)


def _age(name: str, value: str) -> int:
    try:
        return read_duration(value)
    except InputError as error:
        raise InputError(f"\"{name}\" filter expects a duration (e.g., '24h'): {error}") from error


def _condition(name: str, value: str) -> str:
    if name == "id":
        return f"id~={value}"
    # "name!=value" and "name~=value" were cut at the equals sign.
    return f"{name}={value}" if name.endswith(("!", "~")) else f"{name}=={value}"
