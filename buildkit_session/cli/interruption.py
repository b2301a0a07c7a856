"""Ctrl-C and SIGTERM: the first asks the work to stop in order, the second ends the process.

The work is one coroutine. The first signal cancels it, so that it can cancel the daemon's build and close what it
opened. The signals are taken with :mod:`signal` rather than by the event loop: Python runs such a handler even while a
callback keeps the loop busy, and so the second signal always works.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

__all__ = ["SignalError", "run"]

_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalError(Exception):
    """A signal stopped the work; everything the work does when it is cancelled has been done.

    Attributes:
        signal: the signal.
        exit_code: what a shell reports for a process that a signal ended, 128 and the number of the signal.
    """

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(f"interrupted by {by.name}")
        self.signal = by
        self.exit_code = 128 + by


def run(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run ``work()`` in an event loop of its own.

    Returns:
        What the work returned, even if a signal came too late to stop it.

    Raises:
        SignalError: a signal came and the work did not return. What it raised while it was stopping is the cause.
    """
    stop = _Stop()
    with _handled(stop.on_signal):
        try:
            return asyncio.run(stop.guard(work))
        except (Exception, asyncio.CancelledError) as error:
            if stop.received is None:
                raise
            raise SignalError(stop.received) from error


class _Stop:
    """What the signal handler and the work share. The handler runs in the thread of the loop, anywhere in it."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._cancel: Callable[[], object] | None = None

    async def guard(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine runs in a task
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        with _woken_by_signals():
            try:
                if self.received is not None:
                    raise asyncio.CancelledError
                return await work()
            finally:
                self._cancel = None

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            # Whatever hangs, hangs in the orderly way out: take the other one. Nothing is flushed or awaited.
            os._exit(128 + number)
        self.received = signal.Signals(number)
        if self._cancel is not None:
            self._cancel()


@contextmanager
def _woken_by_signals() -> Iterator[None]:
    """Let a signal end the wait of the event loop, so that Python comes to run the handler.

    A signal that arrives after Python's last look and before the system call that waits does not interrupt that call; a
    byte from the handler that Python has in C does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        loop.add_reader(ours, ours.recv, 4096)
        previous = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            loop.remove_reader(ours)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python takes signals in its main thread alone; embedded elsewhere, the host program decides
        return
    # A signal that the parent had ignored, as a shell does for background jobs, stays ignored.
    wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in wanted}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
