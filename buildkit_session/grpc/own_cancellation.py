"""Code that cancels itself, as by waiting for a task that was cancelled, and code that somebody cancels.

Both end with the same exception. A task group takes it for its own cancellation, and ends all of its tasks and its
block without an error: a build would end so, as if nothing had been asked.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from buildkit_session.errors import CallbackError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["is_cancelled", "no_own_cancellation"]


def is_cancelled() -> bool:
    """Whether a scope around the caller is cancelled."""
    return anyio.current_effective_deadline() == -math.inf


@contextmanager
def no_own_cancellation(what: str) -> Iterator[None]:
    """Run code of the caller's inside of this.

    Args:
        what: it is, as the error begins.

    Raises:
        CallbackError: it has cancelled itself.
    """
    try:
        yield
    except anyio.get_cancelled_exc_class() as error:
        task = asyncio.current_task()
        # asyncio's own way counts too: an interceptor may limit a call by asyncio.timeout().
        if is_cancelled() or (task is not None and task.cancelling()):
            raise
        raise CallbackError(f"{what} has cancelled itself") from error
