"""The place of an error is shown as buildx shows it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from buildkit_session.excerpt import excerpt
from buildkit_session.source import Position, SourceFile, SourceRange

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

SHELL = "FROM scratch\nCOPY busybox /bin/sh\n"

CASES = [
    pytest.param("FROM scratch\nCOPY missing /\n", (2, 2), id="missing-file"),
    pytest.param("FROM scratch\nCOPY missing /", (2, 2), id="last-line"),
    pytest.param("FROM scratch\n# 2\n# 3\n# 4\n# 5\nCOPY missing /\n# 7\n# 8\n# 9\n", (6, 6), id="middle"),
    pytest.param("FOO bar\nFROM scratch\n# 3\n# 4\n", (1, 1), id="first-line"),
    pytest.param(f"{SHELL}RUN a=1; \\\n\t# comment\n  exit 7\n# 6\n# 7\n# 8\n", (3, 5), id="several-lines"),
    pytest.param(f"# 1\n# 2\n# 3\n{SHELL}RUN <<E\n" + "true\n" * 100 + "exit 1\nE\n", (6, 108), id="long-heredoc"),
    pytest.param("FROM scratch\r\nCOPY missing ü\r\n", (2, 2), id="other-line-ends"),
]


@pytest.fixture
def context(busybox: Path, tmp_path: Path) -> Path:
    shutil.copy(busybox, tmp_path / "busybox")
    return tmp_path


@pytest.mark.parametrize(("dockerfile", "lines"), CASES)
def test_same_excerpt(
    dockerfile: str, lines: tuple[int, int], daemon: Daemon, reference: ReferenceClient, context: Path
) -> None:
    if daemon.version.startswith("20.10"):
        pytest.skip("Docker 20.10 does not say where an error is")
    (context / "Dockerfile").write_bytes(dockerfile.encode())

    run = reference.build(daemon.address, context, check=False)

    first, last = lines
    ours = excerpt(SourceFile("Dockerfile", dockerfile.encode()), [SourceRange(Position(first), Position(last))])
    assert run.returncode == 1
    assert f"\n{ours}ERROR: " in run.stderr
