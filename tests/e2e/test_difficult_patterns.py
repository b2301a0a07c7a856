"""Patterns that are difficult header fields, against real daemons."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tricky_cases import tricky

import buildkit_session as bk

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio


async def export(daemon: Daemon, context: Path, dest: Path) -> None:
    async with bk.connect(daemon.address) as client:
        await client.build(context, network="none", outputs=[bk.output.local(dest)])


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    return root


@tricky(8)
async def test_an_ignore_file_of_thousands_of_lines(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """Each line comes as a header field; a daemon refuses to send more of them than our SETTINGS allow."""
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    lines = [f"some/directory/or/other/{number}/*.extension" for number in range(5000)]
    (context / ".dockerignore").write_text("\n".join([*lines, "last"]))
    (context / "last").touch()
    (context / "kept").touch()
    await export(daemon, context, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [".dockerignore", "Dockerfile", "kept"]


@tricky(9)
async def test_a_source_with_outer_spaces(daemon: Daemon, context: Path) -> None:
    """A header value with them ends no session: the file is looked for, and as with buildx not found."""
    (context / "Dockerfile").write_text('FROM scratch\nCOPY [" a ", "/"]\n')
    (context / " a ").touch()
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.BuildError, match=r"/ a .*not found"):
            await client.build(context, network="none")
