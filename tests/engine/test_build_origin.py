"""What buildx has noted down about a build is read, and whatever is wrong with it is as if it were not there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from buildkit_session.engine.build_origin import BuildOrigin, find_origin

if TYPE_CHECKING:
    from pathlib import Path


def test_origins(tmp_path: Path) -> None:
    (tmp_path / "refs/default/default").mkdir(parents=True)
    (tmp_path / "refs/x").write_text("no directory")
    entry = {"Target": "default", "LocalPath": "/app", "DockerfilePath": "Dockerfile"}
    (tmp_path / "refs/default/default/abc").write_text(json.dumps(entry))
    (tmp_path / "refs/default/default/broken").write_text("{")
    environ = {"BUILDX_CONFIG": str(tmp_path)}
    assert find_origin(environ, "abc") == BuildOrigin("default", "default", "/app", "Dockerfile")
    assert find_origin(environ, "abd") is None
    assert find_origin(environ, "broken") is None
    assert find_origin(environ, "../default/abc") is None


def test_no_state(tmp_path: Path) -> None:
    assert find_origin({"HOME": str(tmp_path)}, "abc") is None
    (tmp_path / "config.json").write_text("{")
    assert find_origin({"DOCKER_CONFIG": str(tmp_path)}, "abc") is None
