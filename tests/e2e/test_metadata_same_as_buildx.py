"""A metadata file has the form that buildx gives it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from buildkit_session.engine.metadata_file import image_id, metadata_json

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

# The text of the check holds what Go escapes: the marks of the excerpt, and an ampersand.
DOCKERFILE = "from scratch\nCOPY Dockerfile /\nLABEL a=é&\n"


@pytest.mark.parametrize("arguments", [["--progress=quiet"], ["--output=type=cacheonly"]], ids=["image", "nothing"])
def test_a_build(arguments: list[str], daemon: Daemon, reference: ReferenceClient, tmp_path: Path) -> None:
    """And the id is the one that quiet progress ends with."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    file = tmp_path / "metadata.json"

    run = reference.build(daemon.address, f"--metadata-file={file}", *arguments, tmp_path)

    values = json.loads(file.read_bytes())
    assert metadata_json(values) == file.read_bytes()
    if run.stdout:
        assert image_id(values) == run.stdout.strip()


def test_a_call(daemon: Daemon, reference: ReferenceClient, tmp_path: Path) -> None:
    if daemon.version.startswith("20.10"):
        pytest.skip("the frontend of Docker 20.10 knows no calls")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    file = tmp_path / "metadata.json"

    reference.build(daemon.address, f"--metadata-file={file}", "--check", tmp_path, check=False)

    assert b"\\u003e\\u003e\\u003e from scratch" in file.read_bytes()
    assert metadata_json(json.loads(file.read_bytes())) == file.read_bytes()
