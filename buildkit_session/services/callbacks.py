"""Functions of the caller: ``async def`` ones run on the event loop, plain ones in a thread."""

from __future__ import annotations

from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio import CapacityLimiter

__all__ = ["THREADS", "called"]

THREADS: Final = 10
"""Calls of one plain function that run at once: a daemon may ask any number of times, and those that hang shall not
take the threads that files are read with."""


async def called(
    function: Callable[..., Any], *arguments: object, threads: CapacityLimiter | None = None
) -> Any:  # whatever it returns
    """Call a function and wait for what it returns. One that runs in a thread is left alone when this is cancelled.

    Args:
        function: of the caller.
        arguments: for it.
        threads: how many may run at once; by default what all work in threads has together.
    """
    if iscoroutinefunction(function):
        return await function(*arguments)
    found = await to_thread.run_sync(function, *arguments, abandon_on_cancel=True, limiter=threads)
    return await found if isawaitable(found) else found
