"""The demonstration: its example is what it claims to be, and its tree shows what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import resources
from typing import TYPE_CHECKING

from buildkit_session.demo.tree import tree

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon


def _demo(folder: Path, address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "buildkit_session.demo"],
        cwd=folder,
        env=os.environ | {"DOCKER_HOST": address},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_example_comes_back_as_files(daemon: Daemon, busybox: Path, tmp_path: Path) -> None:
    """The result holds what the example's steps made, without the ignored file, and the output shows it."""
    run = _demo(tmp_path, daemon.address)
    assert run.returncode == 0, run.stderr
    site = tmp_path / "out/demo/result/site"
    assert {path.name for path in site.iterdir()} == {"SHA256SUMS", "bin", "greeting.txt", "index.txt", "latest.txt"}
    example = resources.files("buildkit_session.demo") / "example/site/index.txt"
    assert (site / "index.txt").read_text() == example.read_text()
    assert "latest.txt -> greeting.txt" in run.stdout


def test_a_second_run_replaces_the_first(daemon: Daemon, tmp_path: Path) -> None:
    """Nothing of an earlier result is mixed into the next."""
    stale = tmp_path / "out/demo/result/stale"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert _demo(tmp_path, daemon.address).returncode == 0
    assert not stale.exists()


def test_a_named_daemon_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Nothing is started or installed in its place."""
    run = _demo(tmp_path, f"unix://{tmp_path}/nobody.sock")
    assert run.returncode == 1
    assert f"{tmp_path}/nobody.sock" in run.stderr
    assert "Traceback" not in run.stderr
    assert not list(tmp_path.iterdir())


def test_its_help_runs_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "buildkit_session.demo", "--help"]
    run = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert run.stdout.startswith("Usage:")
    assert not list(tmp_path.iterdir())


def test_a_tree_shows_kinds_sizes_and_targets(tmp_path: Path) -> None:
    """One line for each entry, in the order of names; links are shown, not followed."""
    (tmp_path / "b").mkdir(mode=0o755)
    (tmp_path / "b/file").write_bytes(b"123")
    (tmp_path / "b/file").chmod(0o640)
    (tmp_path / "z").symlink_to("b")
    assert list(tree(tmp_path)) == [
        "drwxr-xr-x         ├── b",
        "-rw-r-----      3  │   └── file",
        "lrwxrwxrwx         └── z -> b",
    ]
