"""What git tells of a context; the program itself is asked."""

from __future__ import annotations

import os
import subprocess
from shutil import which
from typing import TYPE_CHECKING

import pytest

from buildkit_session.request.vcs import vcs_attributes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(which("git") is None, reason="no git")

ENVIRON = {"PATH": os.environ.get("PATH", os.defpath), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


def git(place: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", *identity, *words]
    return subprocess.run(command, cwd=place, env=ENVIRON, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    (place / "sub").mkdir(parents=True)
    (place / "sub/Dockerfile").write_text("FROM scratch\n")
    git(place, "init", "--quiet")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "-m", "x")
    return place


def test_a_commit(repository: Path) -> None:
    assert vcs_attributes(repository, environ=ENVIRON) == {"vcs:revision": git(repository, "rev-parse", "HEAD")}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://user:password@host/a.git", "https://host/a.git"),
        ("git@host:a/b.git", "git@host:a/b.git"),
        ("ssh://git@host/a", "ssh://host/a"),
        ("/srv/a", "/srv/a"),
    ],
)
def test_the_source_has_no_credentials(repository: Path, url: str, told: str) -> None:
    git(repository, "remote", "add", "origin", url)
    assert vcs_attributes(repository, environ=ENVIRON)["vcs:source"] == told


def test_the_remote_of_the_branch_comes_first(repository: Path) -> None:
    for name in ("upstream", "origin", "own"):
        git(repository, "remote", "add", name, f"https://{name}")
    assert vcs_attributes(repository, environ=ENVIRON)["vcs:source"] == "https://origin"
    branch = git(repository, "symbolic-ref", "--short", "HEAD")
    git(repository, "config", f"branch.{branch}.remote", "own")
    git(repository, "config", f"branch.{branch}.merge", f"refs/heads/{branch}")
    assert vcs_attributes(repository, environ=ENVIRON)["vcs:source"] == "https://own"
    git(repository, "config", "--unset", f"branch.{branch}.remote")
    git(repository, "remote", "remove", "origin")
    assert vcs_attributes(repository, environ=ENVIRON)["vcs:source"] == "https://upstream"


def test_where_the_mounts_are(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("repository/sub")
    mounts = {"context": repository, "dockerfile": tmp_path / "link", "other": tmp_path}
    told = vcs_attributes(repository / "sub", environ=ENVIRON, mounts=mounts)
    assert {name: told.get(f"vcs:localdir:{name}") for name in mounts} == {
        "context": ".",
        "dockerfile": "sub",
        "other": None,
    }


def test_changes_are_looked_for_only_on_demand(repository: Path) -> None:
    revision = git(repository, "rev-parse", "HEAD")
    demanding = ENVIRON | {"BUILDX_GIT_CHECK_DIRTY": "1"}
    assert vcs_attributes(repository, environ=demanding)["vcs:revision"] == revision
    (repository / "new").touch()
    assert vcs_attributes(repository, environ=demanding)["vcs:revision"] == f"{revision}-dirty"
    assert vcs_attributes(repository, environ=ENVIRON)["vcs:revision"] == revision


def test_no_program_of_the_repository_is_run(repository: Path) -> None:
    (repository / "watch").write_text("#!/bin/sh\ntouch ran\n")
    (repository / "watch").chmod(0o755)
    git(repository, "config", "core.fsmonitor", "./watch")
    vcs_attributes(repository, environ=ENVIRON | {"BUILDX_GIT_CHECK_DIRTY": "1"})
    assert not (repository / "ran").exists()
    git(repository, "status")
    assert (repository / "ran").exists()


@pytest.mark.parametrize("value", ["1", "full"])
def test_labels_on_demand(repository: Path, value: str) -> None:
    git(repository, "remote", "add", "origin", "https://host/a")
    environ = ENVIRON | {"BUILDX_GIT_LABELS": value, "BUILDX_GIT_INFO": "0"}
    assert vcs_attributes(repository / "sub", environ=environ) == {
        "label:org.opencontainers.image.revision": git(repository, "rev-parse", "HEAD"),
        "label:org.opencontainers.image.source": "https://host/a",
        "label:com.docker.image.source.entrypoint": "sub/Dockerfile",
    }
    told = vcs_attributes(repository / "sub", environ=environ, dockerfile=repository / "x/y")
    assert told["label:com.docker.image.source.entrypoint"] == "x/y"
    outside = vcs_attributes(repository, environ=environ, dockerfile=repository.parent / "D")
    assert "label:com.docker.image.source.entrypoint" not in outside


def test_nothing_is_told(repository: Path, tmp_path: Path) -> None:
    """On request, outside of a work tree, without git, or without time."""
    assert vcs_attributes(repository, environ=ENVIRON | {"BUILDX_GIT_INFO": "false"}) == {}
    assert vcs_attributes(tmp_path, environ=ENVIRON) == {}
    assert vcs_attributes(tmp_path, environ=ENVIRON | {"GIT_DIR": str(tmp_path / "none")}) == {}
    assert vcs_attributes(repository, environ={"PATH": str(tmp_path)}) == {}
    assert vcs_attributes(repository, environ=ENVIRON, timeout=0) == {}


def test_a_work_tree_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert vcs_attributes(tmp_path, environ=ENVIRON, mounts={"context": tmp_path}) == {"vcs:localdir:context": "."}
