"""What buildx keeps on this machine is read, and whatever is wrong with it is as if it were not there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from buildkit_session.engine.buildx_state import BuilderEntry, BuildOrigin, find_origin, list_builders

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for folder in ("instances", "refs/default/default"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def test_builders(state: Path) -> None:
    (state / "instances/b").write_text(json.dumps({"Name": "b", "Driver": "remote"}))
    (state / "instances/a").write_text(json.dumps({"Name": "a", "Driver": "docker-container"}))
    (state / "instances/broken").write_text("{")
    (state / "instances/odd").write_text("[]")
    (state / "instances/nameless").write_text('{"Name": 1}')
    (state / "current").write_text(json.dumps({"Key": "unix:///d.sock", "Name": "b"}))
    environ = {"BUILDX_CONFIG": str(state)}
    assert list_builders(environ) == [BuilderEntry("a", "docker-container"), BuilderEntry("b", "remote", current=True)]


def test_origins(state: Path) -> None:
    entry = {"Target": "default", "LocalPath": "/app", "DockerfilePath": "Dockerfile"}
    (state / "refs/default/default/abc").write_text(json.dumps(entry))
    environ = {"BUILDX_CONFIG": str(state)}
    assert find_origin(environ, "abc") == BuildOrigin("default", "default", "/app", "Dockerfile")
    assert find_origin(environ, "abd") is None
    assert find_origin(environ, "../default/abc") is None


def test_no_state(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert list_builders(environ) == []
    assert find_origin(environ, "abc") is None
