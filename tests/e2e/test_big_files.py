"""Files whose size does not fit 32 bits, up and down; sparse where they are read from."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

import buildkit_session as bk

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon

BIG_DAEMONS = ["docker-host" if os.environ.get("DOCKER_HOST") else "docker-newest"]

SIZE = 4 * 1024**3 + 5

DOCKERFILE = f"""\
FROM scratch AS tools
COPY busybox /bin/busybox
FROM tools AS look
RUN --mount=type=bind,target=/ctx ["/bin/busybox", "sh", "-c", "\\
  stat -c %s /ctx/up > /size; tail -c 5 /ctx/up > /tail; \\
  truncate -s {SIZE - 5} /down; echo -n ahead >> /down"]
FROM scratch
COPY --from=look /size /tail /down /
"""


@pytest.mark.anyio
@pytest.mark.timeout(900)
@pytest.mark.parametrize("daemon", BIG_DAEMONS, indirect=True, scope="session")
async def test_over_4_gib_both_ways(daemon: Daemon, busybox: Path, tmp_path: Path) -> None:
    """The size and the last bytes of a file of 4 GiB and 5 bytes arrive, in either direction.

    On one daemon, as it takes minutes: what could overflow is on this side.
    """
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(busybox, context / "busybox")
    (context / "Dockerfile").write_text(DOCKERFILE)
    with (context / "up").open("wb") as file:
        file.truncate(SIZE - 5)
        file.seek(0, 2)
        file.write(b"above")
    out = tmp_path / "out"
    async with bk.connect(daemon.address) as client:
        await client.build(context, network="none", no_cache=True, outputs=[bk.output.local(out)])
    assert (out / "size").read_text() == f"{SIZE}\n"
    assert (out / "tail").read_bytes() == b"above"
    assert (out / "down").stat().st_size == SIZE
    with (out / "down").open("rb") as file:
        file.seek(-5, 2)
        assert file.read() == b"ahead"
    shutil.rmtree(tmp_path)  # 4 GiB each; pytest would keep them for three runs
