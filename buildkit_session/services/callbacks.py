"""Functions of the caller: ``async def`` ones run on the event loop, plain ones in a thread."""

from __future__ import annotations

from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any

from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["called"]


async def called(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function and wait for what it returns. One that runs in a thread is left alone when this is cancelled."""
    if iscoroutinefunction(function):
        return await function(*arguments)
    found = await to_thread.run_sync(function, *arguments, abandon_on_cancel=True)
    return await found if isawaitable(found) else found
