"""How late a task is that wants to run every millisecond: what a service feels that shares the event loop."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

__all__ = ["PERCENTILES", "percentiles", "watched"]

INTERVAL: Final = 0.001
"""Seconds from one wake-up to the next."""

PERCENTILES: Final = {"p50 ms": 0.5, "p90 ms": 0.9, "p99 ms": 0.99, "p99.9 ms": 0.999, "max ms": 1.0}


@asynccontextmanager
async def watched() -> AsyncIterator[list[float]]:
    """Give a list that grows by one lateness, in seconds, at every wake-up while the block runs."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            due = time.perf_counter() + INTERVAL
            await asyncio.sleep(INTERVAL)
            late.append(time.perf_counter() - due)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield late
        tasks.cancel_scope.cancel()


def percentiles(late: Iterable[float]) -> dict[str, float]:
    """Sum lateness up: by percentile, in milliseconds; nothing where nobody woke up."""
    ordered = sorted(late)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {name: 1000 * max(0.0, ordered[round(share * last)]) for name, share in PERCENTILES.items()}
