"""The same builds on another event loop, whose transports are not those of asyncio."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import anyio
import uvloop

import buildkit_session as bk

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon


def test_build_under_uvloop(daemon: Daemon, tmp_path: Path) -> None:
    context, dest, archive = tmp_path / "context", tmp_path / "dest", tmp_path / "out.tar"
    content = bytes(range(256)) * 40_000
    context.mkdir()
    (context / "file").write_bytes(content)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")

    async def main() -> type:
        import asyncio

        async with bk.connect(daemon.address) as client:
            await client.build(context, outputs=[bk.output.local(dest)])
            await client.build(context, outputs=[bk.output.tar(archive)])
        return type(asyncio.get_running_loop())

    assert issubclass(anyio.run(main, backend_options={"use_uvloop": True}), uvloop.Loop)
    assert (dest / "file").read_bytes() == content
    with tarfile.open(archive) as made:
        file = made.extractfile("file")
        assert file is not None
        assert file.read() == content
