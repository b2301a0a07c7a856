"""``buildkit-session plan`` as a process: its two formats, its exit codes, and that it needs no daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import buildkit_session as bk

if TYPE_CHECKING:
    from pathlib import Path


def plan(*words: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    args = [sys.executable, "-m", "buildkit_session", "plan", *words]
    return subprocess.run(args, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "src/deep").mkdir(parents=True)
    (root / "node_modules/left").mkdir(parents=True)
    (root / "Dockerfile").write_text("FROM scratch\n")
    (root / "src/deep/main.c").write_text("int main;\n")
    (root / ".env").write_text("PASSWORD=hunter2\n")
    (root / "note.md").write_text("*")
    (root / "keep.md").write_text("*")
    (root / ".dockerignore").write_text("node_modules\n*.md\n!keep.md\n")
    return root


def test_text(context: Path) -> None:
    done = plan(str(context))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "5 files, 68B, at most; ignore file: .dockerignore\n"
        "\n"
        "Directories by size:\n"
        "        68B       5 files  .\n"
        "        10B        1 file  src\n"
        "        10B        1 file  src/deep\n"
        "\n"
        "Excluded:\n"
        "  node_modules/  (.dockerignore:1: node_modules)\n"
        "  note.md  (.dockerignore:2: *.md)\n"
        "\n"
        "Included again:\n"
        "  keep.md  (.dockerignore:3: !keep.md)\n"
        "\n"
        "Warnings:\n"
        "  .env: often holds passwords; ignore it, or give it to the build as a secret\n"
    )


def test_long_lists_are_cut_in_the_text_only(context: Path) -> None:
    for number in range(25):
        (context / f"{number:02}.md").touch()
    assert "\n  19.md  (.dockerignore:2: *.md)\n  ... and 7 more; --format=json has all\n" in plan(str(context)).stdout
    assert len(json.loads(plan("--format=json", str(context)).stdout)["excluded"]) == 27


def test_a_name_cannot_break_a_line(context: Path) -> None:
    (context / "a\n\x1b[31m.md").touch()
    (context / os.fsdecode(b"\xff.md")).touch()
    rows = plan(str(context)).stdout.splitlines()
    assert "  'a\\n\\x1b[31m.md'  (.dockerignore:2: *.md)" in rows
    assert "  '\\udcff.md'  (.dockerignore:2: *.md)" in rows


def test_json(context: Path) -> None:
    (context / os.fsdecode(b"\xff")).touch()
    done = plan("--format", "json", str(context))
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["files"], found["size"], found["ignore_file"]) == (6, 68, ".dockerignore")
    assert [entry["path"] for entry in found["entries"]] == [
        *(".dockerignore", ".env", "Dockerfile", "keep.md", "src", "src/deep", "src/deep/main.c", "\udcff"),
    ]
    assert found["entries"][6] == {"path": "src/deep/main.c", "kind": "file", "size": 10}
    assert found["directories"][0] == {"path": ".", "files": 6, "size": 68}
    line = {"file": ".dockerignore", "number": 1, "text": "node_modules", "pattern": "node_modules"}
    assert found["excluded"][0] == {"path": "node_modules", "is_directory": True, "size": 0, "line": line}
    assert [entry["path"] for entry in found["reincluded"]] == ["keep.md"]
    assert [warning["kind"] for warning in found["warnings"]] == ["environment", "name-not-utf8"]
    assert "hunter2" not in done.stdout


def test_digest(context: Path) -> None:
    expected = bk.Context.find(context).digest()
    assert plan("--digest", str(context)).stdout == f"{expected}\n"
    assert json.loads(plan("--digest", "--format=json", str(context)).stdout) == {"digest": expected}


def test_the_ignore_file_of_another_dockerfile(context: Path, tmp_path: Path) -> None:
    (tmp_path / "Other").write_text("FROM scratch\n")
    (tmp_path / "Other.dockerignore").write_text("**\n")
    done = plan("-f", str(tmp_path / "Other"), str(context))
    assert done.stdout.startswith("0 files, 0B, at most; ignore file: Other.dockerignore\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], 'failed to plan: unable to prepare context: path "nowhere" not found'),
        (["--format=xml", "."], "failed to plan: invalid format xml; use text or json"),
        (["-f", "nowhere", "."], "failed to plan: failed to read dockerfile: open nowhere: "),
        (["-"], "failed to plan: a plan is made of a directory, not of '-'"),
        ([], "'buildkit-session plan' requires 1 argument"),
    ],
)
def test_a_wrong_value_exits_with_one_line_of_reason(words: list[str], message: str) -> None:
    done = plan(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ERROR: {message}")
    assert "Traceback" not in done.stderr


def test_a_malformed_line_is_named(context: Path) -> None:
    (context / ".dockerignore").write_text("a\n[\n")
    assert plan(str(context)).stderr.startswith("ERROR: failed to plan: .dockerignore:2: pattern '['")


@pytest.mark.parametrize("words", [["--help"], ["--nope"], ["--format=xml", "."]])
def test_help_and_mistakes_load_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys; from buildkit_session.cli import main; main(['plan', *sys.argv[1:]]);"
        "print(*{'asyncio', 'anyio', 'aiohttp', 'h2', 'betterproto2'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
