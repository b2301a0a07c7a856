"""Functions of the caller's that decide or find something for a build, and how all of them are called.

One with ``async def`` runs on the event loop, a plain one in a thread, so that it may block. What it raises is the
cause of a :class:`CallbackError` whose text does not repeat it. Where the answer is a secret there is no cause either:
tracebacks show those, and the text may hold the secret. An InputError passes as it is, for its text is meant for the
user.

It runs in a task of its own: one that cancels itself, as by waiting for a task that was cancelled, would otherwise
cancel the session, which looks as if somebody had given the build up.
"""

from __future__ import annotations

from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio
from anyio.lowlevel import RunVar

from buildkit_session.errors import CallbackError, InputError
from buildkit_session.services.caller_threads import CallerThreads
from buildkit_session.wording import kind_and_place

if TYPE_CHECKING:
    from collections.abc import Callable

    Kind: TypeAlias = Literal["confirm", "credentials", "exporter", "passphrase", "policy", "secret"]

__all__ = ["called"]

MAX_THREADS: Final = 10
"""Plain functions of one kind that run at once. A daemon can ask a hundred times, and one may wait for a person: they
take no threads from each other, nor from those that files are read with."""

_SECRET: Final = ("credentials", "passphrase", "secret")
"""Kinds whose answers nobody may see."""

_threads: Final = RunVar["dict[str, CallerThreads]"]("buildkit_session_callbacks")


async def called(
    function: Callable[..., Any], *arguments: object, kind: Kind, what: str, seconds: float | None = None
) -> Any:
    """Call a function and return what it returns.

    When this is cancelled so is an ``async def`` function; one that runs in a thread goes on by itself.

    Args:
        function: of the caller's.
        arguments: for it.
        kind: those of one kind share threads.
        what: it is, as errors begin.
        seconds: that it may take; ``None`` for any number.

    Raises:
        InputError: the function has raised it.
        CallbackError: it raised something else, cancelled itself, or took too long.
    """
    run = partial(function, *arguments)
    found: list[Any] = []
    failed: list[Exception] = []  # no variable of a frame holds a failure: tools that show them would show its text

    async def call() -> None:
        try:
            if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):
                found.append(await run())
            else:
                found.append(await _in_thread(run, kind))
        except InputError as error:
            failed.append(error)
        except Exception as error:  # noqa: BLE001 - any code may be behind it
            failed.append(CallbackError(f"{what} raised {kind_and_place(error)}"))
            if kind not in _SECRET:
                failed[0].__cause__ = error

    with anyio.move_on_after(seconds) as limit:
        async with anyio.create_task_group() as calling:
            calling.start_soon(call)
    if failed:
        raise failed.pop()
    if found:
        return found.pop()
    if limit.cancelled_caught:
        raise CallbackError(f"{what} did not answer within {seconds:g} s")
    raise CallbackError(f"{what} has cancelled itself")


async def _in_thread(run: Callable[[], Any], kind: Kind) -> Any:
    threads = _threads.get({})
    if kind not in threads:
        threads[kind] = CallerThreads(MAX_THREADS)
        _threads.set(threads)
    answer = await threads[kind].run(run)
    return await answer if isawaitable(answer) else answer
