"""Many builds at once, and many files: everything arrives, nothing hangs, nothing grows."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import anyio
import pytest
from leftovers import nothing_left
from tricky_cases import tricky

import buildkit_session as bk

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

FILES = 50_000
PER_DIRECTORY = 500
EXPORTS = 5
BUILDS = 50
PATIENCE = 120  # seconds for one build; far above what it takes, as a hang has no end


@pytest.fixture(scope="session")
def many_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A context of small files, each with a content of its own."""
    context = tmp_path_factory.mktemp("load") / "context"
    for number in range(FILES):
        path = context / "many" / f"{number // PER_DIRECTORY:03}" / f"{number}"
        if number % PER_DIRECTORY == 0:
            path.parent.mkdir(parents=True)
        path.write_text(f"{number}")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY many /many\n")
    return context


@tricky(37)
@pytest.mark.timeout(600)
async def test_many_small_files_again_and_again(daemon: Daemon, many_files: Path, tmp_path: Path) -> None:
    """An export of 50,000 files ends every time; both sides waiting for each other would hang it now and then."""
    async with bk.connect(daemon.address) as client:
        for number in range(EXPORTS):
            dest = tmp_path / f"{number}"
            with anyio.fail_after(PATIENCE):
                await client.build(many_files, outputs=[bk.output.local(dest)])
            assert sum(len(names) for _, _, names in os.walk(dest)) == FILES
    last = tmp_path / f"{EXPORTS - 1}" / "many"
    assert all(
        (last / f"{number // PER_DIRECTORY:03}" / f"{number}").read_text() == f"{number}" for number in range(FILES)
    )
    shutil.rmtree(tmp_path)  # pytest would keep them for three runs


async def test_fifty_builds_at_once(daemon: Daemon, tmp_path: Path) -> None:
    """One process, one daemon, fifty sessions; all finish, and no task or descriptor stays.

    Without RUN steps: fifty of these at once are too many for BuildKit 0.8 on a busy machine, which then gives up
    with "flightcontrol: exceeded retry timeout".
    """
    context = tmp_path / "context"
    context.mkdir()
    for number in range(BUILDS):
        (context / f"n{number}").write_text(f"{number}\n")
    (context / "Dockerfile").write_text("FROM scratch\nARG N\nCOPY n$N /n\n")
    async with (
        nothing_left(tmp_path, patience=PATIENCE),
        bk.connect(daemon.address) as client,
        anyio.create_task_group() as tasks,
    ):
        for number in range(BUILDS):
            tasks.start_soon(build_one, client, context, number, tmp_path / f"{number}")
    for number in range(BUILDS):
        assert (tmp_path / f"{number}" / "n").read_text() == f"{number}\n"


async def build_one(client: bk.Client, context: Path, number: int, dest: Path) -> None:
    args = {"N": f"{number}"}
    await client.build(context, network="none", build_args=args, outputs=[bk.output.local(dest)])
