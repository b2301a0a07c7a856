"""Functions of the caller's: how they are called, and what becomes of their failures."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import traceback
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from buildkit_session.errors import CallbackError, InputError
from buildkit_session.services.callbacks import MAX_THREADS, called

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buildkit_session.services.callbacks import Kind

pytestmark = pytest.mark.anyio

HIDDEN = "hunter2" + "x" * 20


async def call(function: Callable[..., Any], *given: object, kind: Kind = "secret", seconds: float = 60) -> Any:
    return await called(function, *given, kind=kind, what="it", seconds=seconds)


class Doubles:
    async def __call__(self, number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return 2 * number


async def double(number: int) -> int:
    return await Doubles()(number)


async def test_functions_of_all_kinds() -> None:
    """Asynchronous ones on the event loop, others in a thread, what these return awaited on the loop."""
    threads = []

    def plain(number: int) -> int:
        threads.append(threading.current_thread())
        return 2 * number

    def passes_on(number: int) -> Awaitable[int]:
        return double(number)

    for function in (double, Doubles(), functools.partial(double), plain, passes_on):
        assert await call(function, 3) == 6
    assert len(threads) == 1
    assert threads != [threading.current_thread()]


def fails() -> None:
    raise RuntimeError(HIDDEN)


async def fails_later() -> None:
    fails()


@pytest.mark.parametrize("function", [fails, fails_later])
async def test_a_failure_of_what_finds_secrets_shows_nothing(
    function: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().slow_callback_duration = 0  # so that it logs every callback
    with pytest.raises(CallbackError, match=r"^it raised RuntimeError at test_callbacks\.py:\d+$") as caught:
        await call(function)
    assert "Executing" in caplog.text
    assert HIDDEN not in caplog.text
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert HIDDEN not in "".join(shown.format(chain=True))


@pytest.mark.parametrize("function", [fails, fails_later])
async def test_a_failure_of_what_decides_is_the_cause(function: Callable[[], Any]) -> None:
    with pytest.raises(CallbackError, match=r"^it raised RuntimeError at test_callbacks\.py:\d+$") as caught:
        await call(function, kind="policy")
    assert isinstance(caught.value.__cause__, RuntimeError)


async def test_an_input_error_passes() -> None:
    def fail() -> None:
        raise InputError("log in first")

    with pytest.raises(InputError, match=r"^log in first$"):
        await call(fail)


async def hangs() -> None:
    await anyio.sleep_forever()


async def test_time_is_bounded_in_threads_too() -> None:
    go_on = threading.Event()
    try:
        for function in (hangs, lambda: go_on.wait(60)):
            with pytest.raises(CallbackError, match=r"^it did not answer within 0\.05 s$"):
                await call(function, seconds=0.05)
    finally:
        go_on.set()


async def raises_it() -> None:
    raise asyncio.CancelledError


async def does_it() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.sleep_forever()


@pytest.mark.parametrize("function", [raises_it, does_it])
async def test_one_that_cancels_itself_cancels_nobody_else(function: Callable[[], Any]) -> None:
    with pytest.raises(CallbackError, match=r"^it has cancelled itself$"):
        await call(function)
    await anyio.lowlevel.checkpoint()


async def test_those_that_are_stuck_leave_threads_for_other_kinds() -> None:
    """One who is asked for a signature may be away; files are read all the same, and secrets."""
    go_on = threading.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(MAX_THREADS * 6):
            tasks.start_soon(functools.partial(call, lambda: go_on.wait(60), kind="confirm"))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(30):
            assert await call(lambda: "value") == "value"
            await anyio.to_thread.run_sync(go_on.set)
