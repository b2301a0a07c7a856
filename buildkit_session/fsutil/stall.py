"""Ends a transfer whose other side has gone silent.

Only silence counts: time in which the other side owes something and this side waits for nothing else. A slow disk here
is not silence, nor is a daemon that has not been asked for anything.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from buildkit_session.errors import first_cause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["StallWatch", "run_watched"]

SLICES: Final = 4
"""Looks in that time. An event loop that stood still makes the other side look silent in one look, not in all."""

T = TypeVar("T")


class StallWatch:
    """What has happened, as far as it matters here.

    Attributes:
        is_waiting: whether this side waits for the other one now.
    """

    def __init__(self) -> None:
        self.is_waiting = False
        self._steps = 0
        self._steps_seen = 0
        self._silent_looks = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark the time in which this side waits for the other one."""
        self.is_waiting = True
        try:
            yield
        finally:
            self.is_waiting = False
            self._steps += 1

    def look(self, *, owed: bool) -> bool:
        """Tell whether it has been silent for the whole time; called ``SLICES`` times in it.

        Args:
            owed: whether the other side has to send something.
        """
        silent = owed and self.is_waiting and self._steps == self._steps_seen
        self._steps_seen = self._steps
        self._silent_looks = self._silent_looks + 1 if silent else 0
        return self._silent_looks >= SLICES


async def run_watched(
    work: Callable[[], Awaitable[T]],
    watch: StallWatch,
    *,
    timeout: float | None,  # noqa: ASYNC109 - of silence, not of the call
    stalled: Callable[[], Exception | None],
) -> T:
    """Run ``work``, and cancel it when the other side is silent.

    Args:
        work: marks its waits in ``watch``.
        watch: new.
        timeout: seconds of silence; ``None`` for no limit.
        stalled: the error to raise, or ``None`` while the other side owes nothing.
    """
    if timeout is None:
        return await work()
    silence: Exception | None = None

    async def keep_looking() -> None:
        nonlocal silence
        while silence is None:
            await anyio.sleep(timeout / SLICES)
            # Not while this side works: a thread is changing what would be looked at.
            error = stalled() if watch.is_waiting else None
            if watch.look(owed=error is not None):
                silence = error
        tasks.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_looking)
            result = await work()
            tasks.cancel_scope.cancel()
            return result
    except BaseExceptionGroup as group:
        cause = first_cause(group)
        raise cause from cause.__cause__
    assert silence is not None  # noqa: S101 - for the type checker: what else would have cancelled the group
    raise silence
