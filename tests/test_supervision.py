"""A task group that wraps nothing in a group."""

from __future__ import annotations

import anyio
import pytest

from buildkit_session.supervision import supervised

pytestmark = pytest.mark.anyio


async def fail(text: str) -> None:
    raise AttributeError(text)


async def fail_when_cancelled() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise AttributeError("task")


async def raise_group() -> None:
    async with supervised() as tasks:
        tasks.start_soon(fail_when_cancelled)
        await anyio.lowlevel.checkpoint()
        raise ExceptionGroup("mine", [ValueError()])


async def wait_for_a_mistake() -> None:
    async with supervised() as outer:
        outer.start_soon(anyio.sleep_forever)
        async with supervised() as tasks:
            tasks.start_soon(fail, "task")
            await anyio.sleep_forever()


async def test_what_the_block_raises_leaves_as_it_is() -> None:
    """A group of the caller's own too, and also if a task fails on the way out."""
    with pytest.raises(ExceptionGroup, match="mine"):
        await raise_group()


async def test_the_error_of_a_task_is_not_wrapped() -> None:
    with pytest.raises(AttributeError, match="task"):
        await wait_for_a_mistake()


async def test_a_cancelled_block_is_cancelled() -> None:
    with anyio.CancelScope() as scope:
        async with supervised() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
