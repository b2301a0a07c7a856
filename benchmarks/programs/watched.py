"""How late an event loop is while something is built; prints that as JSON.

``watched build ADDRESS OUTPUT FILE CONTEXT`` builds with the library on that loop, ``watched command COMMAND...`` with
another client beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import anyio

import buildkit_session as bk
from benchmarks.lateness import percentiles, watched


async def main() -> None:
    """Do what the command line asks for."""
    mode, *arguments = sys.argv[1:]
    async with watched() as late:
        if mode == "build":
            await build(*arguments)
        else:
            await anyio.run_process(arguments, stdout=subprocess.DEVNULL, env=os.environ)
    print(json.dumps({"late": percentiles(late)}))


async def build(address: str, output: str, file: str, context: str) -> None:
    """Build with the library."""
    async with bk.connect(address) as client:
        await client.build(context, file=file, network="none", outputs=[output])


anyio.run(main)
