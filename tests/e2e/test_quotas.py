"""Quotas of exports on real daemons: the build fails, the error says why, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from leftovers import nothing_left

import buildkit_session as bk

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.local_output import Mode
    from buildkit_session.testing import Daemon

FILES = 50
SIZE = 10_000


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "in").mkdir(parents=True)
    (root / "Dockerfile").write_text("FROM scratch\nCOPY in /\n")
    for number in range(FILES):
        (root / "in" / f"{number:02}").write_bytes(b"x" * SIZE)
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """With an old result, where nothing else is."""
    path = tmp_path / "results/out"
    path.mkdir(parents=True)
    (path / "old").write_text("old")
    return path


async def build(daemon: Daemon, context: Path, output: bk.output.Output) -> bk.BuildResult:
    async with bk.connect(daemon.address) as client:
        return await client.build(context, outputs=[output])


def size_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


@pytest.mark.anyio
async def test_what_is_allowed_is_exported(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = await build(daemon, context, bk.output.local(out, max_bytes=FILES * SIZE, max_entries=FILES))
    assert (result.exports[0].files, result.exports[0].bytes) == (FILES, FILES * SIZE)
    assert len(os.listdir(out)) == FILES


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [{"max_bytes": FILES * SIZE - 1}, {"max_entries": FILES - 1}], ids=str)
@pytest.mark.parametrize("mode", ["merge", "mirror", "swap"])
async def test_too_much_for_a_directory(
    daemon: Daemon, context: Path, out: Path, mode: Mode, limit: dict[str, int]
) -> None:
    """Known from the listing, so that not one file too many is written; with ``swap`` none at all is left."""
    ((option, number),) = limit.items()
    output = bk.output.local(out, mode=mode, max_bytes=limit.get("max_bytes"), max_entries=limit.get("max_entries"))
    async with nothing_left(out.parent):
        with pytest.raises(bk.QuotaExceeded, match=f"more than {number} .*; raise {option}") as caught:
            await build(daemon, context, output)
    assert isinstance(caught.value.__cause__, bk.BuildError)
    assert f"more than {number} " in str(caught.value.__cause__)  # the daemon was told
    assert (out / "old").read_text() == "old"
    assert os.listdir(out.parent) == ["out"]
    written = size_below(out) - len("old")
    assert written <= FILES * SIZE - SIZE
    assert mode != "swap" or written == 0


@pytest.mark.anyio
@pytest.mark.parametrize("old", [False, True])
async def test_too_much_for_an_archive(daemon: Daemon, context: Path, tmp_path: Path, *, old: bool) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    if old:
        (folder / "a.tar").write_text("old")
    async with nothing_left(folder):
        with pytest.raises(bk.QuotaExceeded, match=r"more than 100000 bytes; raise max_bytes"):
            await build(daemon, context, bk.output.tar(folder / "a.tar", max_bytes=100_000))
    assert os.listdir(folder) == (["a.tar"] if old else [])
    assert not old or (folder / "a.tar").read_text() == "old"


def test_the_command_line_names_its_option(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    program = [
        sys.executable,
        "-m",
        "buildkit_session",
        "build",
        "-o",
        f"type=tar,dest={tmp_path / 'a'},max-size=0.1MB",
    ]
    environment = {**os.environ, "DOCKER_HOST": daemon.address}
    result = subprocess.run([*program, context], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.endswith(
        "ERROR: failed to build: the export has more than 100000 bytes; "
        "raise max_bytes (max-size in --output) if it may\n"
    )
