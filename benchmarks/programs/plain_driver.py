"""The other end of ``serve_plain``: ``plain_driver SOCKET in|out BYTES``; prints seconds and CPU as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from benchmarks.programs.plain import Pump


async def main() -> None:
    """Move the bytes that the command line asks for."""
    path, direction, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    _, pump = await asyncio.get_running_loop().create_unix_connection(Pump, path)
    wall, cpu = time.perf_counter(), time.process_time()
    pump.write(direction[:1].encode() + size.to_bytes(8, "big"))
    if direction == "in":
        await pump.send(size)
        await pump.received_at_least(1)
    else:
        await pump.received_at_least(size)
    json.dump({"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}, sys.stdout)


asyncio.run(main())
