"""Warnings of a build, explained, beside buildx."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from buildkit_session.cli.warned import Warnings
from buildkit_session.engine.events import VertexWarning

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

DOCKERFILE = """\
FROM scratch
MAINTAINER somebody
FROM scratch as second
ENV a \\
  b
copy Dockerfile /
FROM scratch
COPY --from=second / /
"""


def test_the_step_does_not_distinguish_warnings() -> None:
    warnings = Warnings()
    assert not warnings
    assert warnings.add(VertexWarning("a", 1, "Rule"))
    assert not warnings.add(VertexWarning("b", 1, "Rule"))
    assert warnings.add(VertexWarning("b", 1, "Rule", url="https://example.com"))
    assert len(warnings) == 2


def test_line_ends_cannot_forge_warnings() -> None:
    warnings = Warnings()
    warnings.add(VertexWarning("a", 1, "Rule\n - Other", url="u\nv"))
    assert warnings.listing(explain=True) == " - Rule\\n - Other\nMore info: u\\nv\n\n"


def test_they_are_explained_as_buildx_does(daemon: Daemon, reference: ReferenceClient, tmp_path: Path) -> None:
    """Upstream lists them in random order."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    words = ["build", "--progress=plain", "--network=none", str(tmp_path)]
    with reference.environment(daemon.address) as environ:
        theirs = stderr([str(reference.docker), "--debug", "buildx", *words], dict(environ))
    environ = os.environ | {"DOCKER_HOST": daemon.address}
    ours = stderr([sys.executable, "-m", "buildkit_session", "--debug", *words], environ)
    assert sorted(explanations(ours)) == sorted(explanations(theirs))
    if not daemon.version.startswith("20."):
        assert len(explanations(theirs)) > 2


def stderr(program: list[str], environ: dict[str, str]) -> str:
    return subprocess.run(program, env=environ, capture_output=True, text=True, check=True).stderr


def explanations(text: str) -> list[str]:
    """The blocks of the warnings; an empty line ends each."""
    listing = text.partition(" found:\n")[2]
    return [block for block in listing.removeprefix("\x1b[0m").split("\n\n") if block.startswith(" - ")]
