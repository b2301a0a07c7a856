"""Signals, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from buildkit_session.cli import interruption
from buildkit_session.cli.interruption import SignalError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = """
import asyncio, sys
from buildkit_session.cli import interruption

def say(text):
    print(text, flush=True)

async def orderly():
    try:
        say("ready")
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        say("cleaned up")

async def failing():
    try:
        await orderly()
    finally:
        raise ValueError("while stopping")

async def stubborn():
    try:
        await orderly()
    finally:
        await asyncio.sleep(3600)

async def deaf():
    try:
        await orderly()
    except asyncio.CancelledError:
        return "done all the same"

try:
    say(interruption.run(globals()[sys.argv[1]]))
except interruption.SignalError as error:
    say(f"{error}, cause {type(error.__cause__).__name__}")
    sys.exit(error.exit_code)
"""


class Process:
    """A process that runs one of the coroutines above."""

    def __init__(self, work: str) -> None:
        self._popen = subprocess.Popen([sys.executable, "-c", _PROGRAM, work], stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().rstrip("\n")

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def exit_code(self) -> int:
        return self._popen.wait()

    def close(self) -> None:
        self._popen.kill()
        self._popen.communicate()


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[Process]:
    made = Process(request.param)
    yield made
    made.close()


def running(work: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("process", [work], indirect=True)


@running("orderly")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_cancels_the_work(process: Process, number: signal.Signals, code: int) -> None:
    assert process.line() == "ready"
    process.send(number)
    assert process.line() == "cleaned up"
    assert process.line() == f"interrupted by {number.name}, cause CancelledError"
    assert process.exit_code() == code


@running("failing")
def test_an_error_while_stopping_is_the_cause(process: Process) -> None:
    assert process.line() == "ready"
    process.send(signal.SIGINT)
    assert process.line() == "cleaned up"
    assert process.line() == "interrupted by SIGINT, cause ValueError"
    assert process.exit_code() == 130


@running("stubborn")
@pytest.mark.parametrize(("second", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_the_process(process: Process, second: signal.Signals, code: int) -> None:
    assert process.line() == "ready"
    process.send(signal.SIGINT)
    assert process.line() == "cleaned up"
    process.send(second)
    assert process.exit_code() == code


@running("deaf")
def test_work_that_finishes_all_the_same_has_finished(process: Process) -> None:
    assert process.line() == "ready"
    process.send(signal.SIGINT)
    assert process.line() == "cleaned up"
    assert process.line() == "done all the same"
    assert process.exit_code() == 0


def test_handlers_are_put_back_and_ignored_signals_stay_ignored() -> None:
    inside: list[object] = []

    async def look() -> None:
        inside.extend([signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)])

    before = signal.getsignal(signal.SIGINT)
    old = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        interruption.run(look)
    finally:
        signal.signal(signal.SIGTERM, old)
    assert inside[0] != before
    assert inside[1] == signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) == before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    results: list[str] = []

    async def work() -> str:
        return "done"

    thread = threading.Thread(target=lambda: results.append(interruption.run(work)))
    thread.start()
    thread.join()
    assert results == ["done"]


def test_errors_without_a_signal_pass() -> None:
    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        interruption.run(fail)


def test_the_exit_code_is_the_shells() -> None:
    assert SignalError(signal.SIGTERM).exit_code == 143
