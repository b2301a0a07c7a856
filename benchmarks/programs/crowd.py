"""Many builds in one process: ``crowd ADDRESS CONTEXT COUNT FOLDER``; prints the seconds of each, and CPU, as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import anyio

import buildkit_session as bk


async def main() -> None:
    """Start all builds, and wait for them."""
    address, context, count, folder = sys.argv[1:]
    seconds: list[float] = []
    cpu = time.process_time()
    async with bk.connect(address) as client:
        start = time.perf_counter()

        async def build(number: int) -> None:
            dest = Path(folder, str(number))
            args = {"N": str(number)}
            await client.build(context, network="none", build_args=args, outputs=[bk.output.local(dest)])
            seconds.append(time.perf_counter() - start)

        async with anyio.create_task_group() as builds:
            for number in range(int(count)):
                builds.start_soon(build, number)
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - cpu}))


anyio.run(main)
