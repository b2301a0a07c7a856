"""A task group for tasks that never fail, which leaves the errors of its block as they are."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from buildkit_session.errors import first_cause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup

__all__ = ["supervised"]


@asynccontextmanager
async def supervised() -> AsyncIterator[TaskGroup]:
    """Own tasks until the block is left, then wait for them; whoever wants to end them sooner cancels the group.

    The tasks take care of their own errors. What the block raises cancels them, and leaves as it is: a task group
    would wrap it in an exception group. If a task fails nevertheless, which is a mistake in it, the block is cancelled
    and the error takes its place, unwrapped as well.
    """
    raised: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - raised again below
                raised = error
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raised = raised or first_cause(group)
        raise raised from raised.__cause__
    if raised is not None:
        raise raised
