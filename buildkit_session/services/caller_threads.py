"""Threads for plain functions of the caller's, apart from those that files are read with."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CallerThreads"]

T = TypeVar("T")


class CallerThreads:
    """Some threads of one event loop.

    A call that is cancelled leaves its function alone, and its thread still counts until that returns. Else a daemon
    that asks and takes it back, again and again, would have a thread started each time.

    Args:
        number: of functions that run at once; further calls wait.
    """

    def __init__(self, number: int) -> None:
        self._limiter = anyio.CapacityLimiter(number)

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function and wait for what it returns; raises what it raises.

        Neither takes a way through the event loop, which in debug mode logs the arguments of slow callbacks.
        """
        loop = asyncio.get_running_loop()
        holder = object()
        begun = threading.Lock()  # by the function, or by who is cancelled before
        found: list[T] = []
        failed: list[Exception] = []

        def work() -> None:
            if not begun.acquire(blocking=False):
                return
            try:
                found.append(function())
            except Exception as error:  # noqa: BLE001 - raised again below
                failed.append(error)
            finally:
                with suppress(RuntimeError):  # the event loop has ended meanwhile
                    loop.call_soon_threadsafe(self._limiter.release_on_behalf_of, holder)

        await self._limiter.acquire_on_behalf_of(holder)
        try:
            await to_thread.run_sync(work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
        finally:
            if begun.acquire(blocking=False):
                self._limiter.release_on_behalf_of(holder)
        if failed:
            raise failed.pop()
        return found.pop()
