"""What a build must not leave behind in its process, however it ended."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATIENCE = 60  # seconds after which a block that hangs fails
SETTLING = 5  # seconds to let go of everything in


@asynccontextmanager
async def nothing_left(folder: Path, *, patience: float = PATIENCE) -> AsyncIterator[None]:
    """Hold the block to it: tasks, descriptors and threads are as before, the event loop has nothing to complain of.

    Args:
        folder: where no temporary file may stay.
        patience: seconds that the block may take.
    """
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _loop, complaint: complaints.append(complaint))
    before = _State()
    with anyio.fail_after(patience):
        yield
    with anyio.move_on_after(SETTLING):
        while _State().more_than(before):  # noqa: ASYNC110 - the kernel does not tell
            await anyio.sleep(0.01)
    assert not _State().more_than(before), _State().more_than(before)
    assert _temporary_files(folder) == []
    gc.collect()  # what was not closed warns now, which fails the test
    await anyio.lowlevel.checkpoint()
    assert complaints == []
    loop.set_exception_handler(None)


class _State:
    def __init__(self) -> None:
        self.tasks = asyncio.all_tasks()
        self.descriptors = _descriptors()
        # Without the workers of anyio's pool, which wait for more; those that are busy are counted.
        self.threads = {thread for thread in threading.enumerate() if not thread.name.startswith("AnyIO worker")}
        self.busy = anyio.to_thread.current_default_thread_limiter().borrowed_tokens

    def more_than(self, before: _State) -> list[object]:
        """What is there now and was not ``before``."""
        return [
            *(self.tasks - before.tasks),
            *(self.threads - before.threads),
            *(self.descriptors.items() - before.descriptors.items()),
            *[f"{self.busy} busy threads"] * (self.busy > before.busy),
        ]


def _descriptors() -> dict[str, str]:
    """What every open descriptor refers to, but the one for this very look."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def _temporary_files(folder: Path) -> list[str]:
    return [name for _, folders, files in os.walk(folder) for name in [*folders, *files] if name.startswith(".tmp")]
