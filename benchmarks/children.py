"""Processes that a ring starts: programs of this package, and commands under a stopwatch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["HungError", "ProgramError", "Server", "Timing", "run_program", "serving", "timed"]

ROOT: Final = Path(__file__).parent.parent
STOPWATCH: Final = ROOT / "benchmarks" / "programs" / "stopwatch.py"
FAREWELL: Final = 10.0
"""Seconds a server has to end."""


class ProgramError(Exception):
    """A program failed or did not end; says how."""


class HungError(ProgramError):
    """A program did not end in the time it was given, and was killed."""

    def __init__(self, patience: float) -> None:
        super().__init__(f"hung for {patience:.0f} s")


@dataclass(frozen=True, slots=True)
class Timing:
    """What one command took.

    Attributes:
        wall: seconds.
        cpu: seconds of user and system time, of the command and the processes it waited for.
        peak: MiB of resident memory, of the largest of them.
        memory: seconds since the start and MiB, of the largest of them, twenty times a second.
    """

    wall: float
    cpu: float
    peak: float
    memory: list[tuple[float, float]]


class Server:
    """A program that serves on a Unix socket and prints a line of JSON for every call."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.path = path
        self._process = process

    def report(self) -> dict[str, Any]:
        """What the program says of the last call."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise ProgramError(f"it ended with status {self._process.wait(FAREWELL)}")
        report: dict[str, Any] = json.loads(line)
        return report


@contextmanager
def serving(name: str, *arguments: str) -> Iterator[Server]:
    """Start a program that serves until its standard input is closed.

    Raises:
        ProgramError: it does not come up; the text is its last word.
    """
    with tempfile.TemporaryDirectory(prefix="bks-") as folder, Path(folder, "errors").open("w+") as errors:
        path = Path(folder, "socket")
        command = _command(name, str(path), *arguments)
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            server = Server(process, path)
            try:
                server.report()
                yield server
            except ProgramError as error:
                errors.seek(0)
                raise ProgramError(_last_line(errors.read()) or str(error)) from error
            finally:
                if process.stdin:
                    process.stdin.close()
                try:
                    process.wait(FAREWELL)
                except subprocess.TimeoutExpired:
                    process.kill()


def run_program(
    name: str, *arguments: str, patience: float, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a program that prints one line of JSON.

    Args:
        name: of the module.
        arguments: for it.
        patience: seconds after which it is killed.
        environment: for it; otherwise it inherits ours.

    Raises:
        HungError: it was killed, and all that it had started.
        ProgramError: it failed; the text is its last word.
    """
    with subprocess.Popen(
        _command(name, *arguments),
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            output, errors = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired as error:
            raise HungError(patience) from error
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise ProgramError(f"status {process.returncode}: {_last_line(errors)}")
    result: dict[str, Any] = json.loads(output)
    return result


def timed(command: Sequence[str], environment: Mapping[str, str], *, patience: float) -> Timing:
    """Run a command and take its times and memory; its output is dropped.

    A process of its own does so: a child begins with the memory of its parent, and this process is a large one.

    Args:
        command: the program and its arguments.
        environment: for the command.
        patience: seconds after which it is killed.

    Raises:
        HungError: it was killed.
        ProgramError: it failed; the text is its last word.
    """
    with tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(
            [sys.executable, "-I", "-S", STOPWATCH, str(patience), *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=True,
        )
        result = json.loads(done.stdout)
        errors.seek(0)
        if result["hung"]:
            raise HungError(patience)
        if result["status"]:
            raise ProgramError(f"status {result['status']}: {_last_line(errors.read())}")
    memory = [(seconds, mib) for seconds, mib in result["memory"]]
    return Timing(wall=result["wall"], cpu=result["cpu"], peak=result["peak"], memory=memory)


def _command(name: str, *arguments: str) -> list[str | os.PathLike[str]]:
    return [sys.executable, "-m", f"benchmarks.programs.{name}", *arguments]


def _last_line(text: str) -> str:
    # The frame is that of an ExceptionGroup.
    lines = (line.strip(" +-|") for line in reversed(text.splitlines()))
    return next(filter(None, lines), "")[:120]
