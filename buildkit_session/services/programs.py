"""Programs of this machine that a service needs: found safely, run for a moment, and not left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import Process

__all__ = ["find_program", "kill", "run_program"]


def find_program(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the path of a program, ``None`` if it is not there. Looks at the file system.

    Relative directories of the search path are passed over: the current one may be a stranger's build context.
    """
    directories = [path for path in environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(path)]
    return shutil.which(name, path=os.pathsep.join(directories)) if directories else None


async def run_program(
    command: Sequence[str], data: bytes, environ: Mapping[str, str], *, max_output: int
) -> tuple[int, bytes]:
    """Run a program on ``data`` and return its exit status and what it printed, errors apart.

    Of what it prints, one byte more than ``max_output`` is returned at most, and the status is 0 then. A call that is
    cancelled kills the program, with what it has started; one that ends by itself may leave something running.

    Raises:
        OSError: it cannot be run.
    """
    # A start that is cancelled would end the program, but not what that has started meanwhile.
    with anyio.CancelScope(shield=True):
        process = await anyio.open_process(
            command, stderr=subprocess.DEVNULL, env=dict(environ), start_new_session=True
        )
    try:
        printed = await _converse(process, data, max_output)
        return (0, printed) if len(printed) > max_output else (await process.wait(), printed)
    finally:
        with anyio.CancelScope(shield=True):
            await kill(process)


async def kill(process: Process) -> None:
    """End a process that leads a session, and all of that, unless it has ended by itself."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.aclose()


async def _converse(process: Process, data: bytes, max_output: int) -> bytes:
    assert process.stdin is not None  # noqa: S101 - pipes are the default
    assert process.stdout is not None  # noqa: S101
    # One that ends without reading its input has its say in its output.
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.send(data)
        await process.stdin.aclose()
    printed = bytearray()
    async for piece in process.stdout:
        printed += piece
        if len(printed) > max_output:
            break
    return bytes(printed[: max_output + 1])
