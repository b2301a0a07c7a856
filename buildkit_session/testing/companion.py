"""A program that runs beside a test, and ends with it or with this process."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from buildkit_session.testing.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["companion"]

# All in seconds.
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 10.0
_POLL_INTERVAL = 0.02
_LOG_TAIL = 3000
# The kernel ends it where this process is killed and has no say any more.
_TIED = ("setpriv", "--pdeathsig=KILL", "--")


@contextmanager
def companion(
    command: Sequence[str | Path], port: int, log: Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Start a program, wait until it accepts connections on a port of 127.0.0.1, and end it with the block.

    Args:
        command: the program and its arguments; it stays in the foreground.
        port: where it listens.
        log: takes what it writes.
        environment: the default is that of this process.

    Raises:
        Unavailable: it could not be run, ended or took too long; the text ends with the end of its log.
    """
    try:
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*_TIED, *command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        raise Unavailable(f"{command[0]} could not be run: {error}") from error
    with process:
        try:
            _wait(process, port, log)
            yield
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while not _accepts(port):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-_LOG_TAIL:]
            raise Unavailable(f"{process.args!r} does not listen on port {port}; the end of its log:\n{tail}")
        time.sleep(_POLL_INTERVAL)


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
