"""Functions of the caller: ``async def`` ones run on the event loop, plain ones in a thread."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CallerThreads", "called"]

T = TypeVar("T")


class CallerThreads:
    """Threads for functions of the caller's, apart from those that files are read with.

    A call that is cancelled leaves its function alone, and its thread still counts until that returns. Else a daemon
    that asks and takes it back, again and again, would have a thread started each time.

    Args:
        number: of functions that run at once; further calls wait.
    """

    def __init__(self, number: int) -> None:
        self._limiter = anyio.CapacityLimiter(number)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a plain function and wait for what it returns.

        That takes no way through the event loop, which in debug mode logs the arguments of slow callbacks.
        """
        loop = asyncio.get_running_loop()
        holder = object()
        begun = threading.Lock()  # by the function, or by who is cancelled before
        found: list[T] = []

        def work() -> None:
            if not begun.acquire(blocking=False):
                return
            try:
                found.append(function(*arguments))
            finally:
                with suppress(RuntimeError):  # the event loop has ended meanwhile
                    loop.call_soon_threadsafe(self._limiter.release_on_behalf_of, holder)

        await self._limiter.acquire_on_behalf_of(holder)
        try:
            await to_thread.run_sync(work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
        finally:
            if begun.acquire(blocking=False):
                self._limiter.release_on_behalf_of(holder)
        return found.pop()


async def called(threads: CallerThreads, function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function and wait for what it returns.

    Args:
        threads: for a plain one.
        function: of the caller's.
        arguments: for it.
    """
    if iscoroutinefunction(function):
        return await function(*arguments)
    found = await threads.run(function, *arguments)
    return await found if isawaitable(found) else found
