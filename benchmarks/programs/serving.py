"""What the servers under test have in common: their arguments, how they begin, report and end.

A server is started with the path of a Unix socket and, if wanted, ``--uvloop`` and ``--watch``. It prints ``{}`` when
it listens, then what every call cost, and ends when its standard input is closed. It serves ``/bench.Stream/Out``,
whose request is a number of bytes to send (8 bytes, big-endian), and ``/bench.Stream/In``, which answers with the
number of bytes that it has received. Messages pass as they are: no server spends time on protobuf.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from benchmarks.lateness import percentiles, watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["MESSAGE", "metered", "serve", "wanted_messages"]

MESSAGE: Final = bytes(32 * 1024)


def serve(listening: Callable[[str], AbstractAsyncContextManager[None]]) -> None:
    """Run a server as the command line says.

    Args:
        listening: serves on the path of a Unix socket while its block runs.
    """
    path, *options = sys.argv[1:]

    async def main() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
        async with listening(path):
            print("{}", flush=True)
            await ended.wait()

    if "--uvloop" in options:
        import uvloop  # noqa: PLC0415 - a peer that may be missing

        uvloop.run(main())
    else:
        asyncio.run(main())


@asynccontextmanager
async def metered() -> AsyncIterator[None]:
    """Report what the block cost; with ``--watch`` how late the event loop was meanwhile, too."""
    async with AsyncExitStack() as stack:
        late = await stack.enter_async_context(watched()) if "--watch" in sys.argv else []
        start = time.process_time()
        yield
        cpu = time.process_time() - start
    print(json.dumps({"cpu": cpu, "late": percentiles(late)}), flush=True)


def wanted_messages(request: bytes) -> int:
    """How many messages a call to ``Out`` asks for."""
    return -(-int.from_bytes(request, "big") // len(MESSAGE))
