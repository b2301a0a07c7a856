"""Every command as a process, as far as no daemon is needed: help, operands, mistakes, and nobody at the address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_cli_main import run
from test_imports import HEAVY, command

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ["build", "doctor", "du", "history logs", "history ls", "history rm", "info", "plan", "prune"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command(name: str) -> None:
    done = run(*name.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage:  buildkit-session {name} ")
    assert "  -h, --help" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("words", [["history"], ["history", "--help"]])
def test_a_group_explains_itself(words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage:  buildkit-session history [OPTIONS] COMMAND\n")
    assert "  ls        List build records\n" in done.stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {"build", "plan"}])
def test_help_loads_no_client(name: str) -> None:
    assert not command(*name.split(), "--help") & {*HEAVY, "buildkit_session.client"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("history nope", "unknown command: 'nope'; there is: logs, ls, rm"),
        ("du x", "'buildkit-session du' accepts no arguments"),
        ("history ls x", "'buildkit-session history ls' accepts no arguments"),
        ("history logs a b", "'buildkit-session history logs' requires at most 1 argument"),
        ("history logs ^x", 'invalid offset "^x"'),
        ("history logs --progress=x", "invalid progress mode x"),
        ("history rm", "rm requires at least one argument"),
        ("history rm --all x", "rm requires either --all or at least one argument"),
        ("du --format=json --verbose", "--format and --verbose cannot be used together"),
        ("info --format=yaml", "invalid format yaml; use text or json"),
        ("doctor --format=yaml", "invalid format yaml; use text or json"),
        ("prune -f --max-used-space=much", "invalid value 'much' for --max-used-space"),
        ("prune --filter=type", "bad format of filter 'type' (expected name=value)"),
        ("-H unix:///x.sock history ls --builder=b", "no builder 'b' found"),
    ],
)
def test_mistakes(words: str, message: str) -> None:
    """What is wrong is said before anybody is asked for anything."""
    done = run(*words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ERROR: {message}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["du", "info", "history ls", "history logs", "history rm a", "prune -f"])
def test_nobody_listens(words: str, tmp_path: Path) -> None:
    done = run("-H", f"unix://{tmp_path}/none.sock", *words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ERROR: cannot reach a Docker Engine at unix://{tmp_path}/none.sock")


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_global_flags_may_stand_anywhere(place: str, tmp_path: Path) -> None:
    flag = ["-H", f"unix://{tmp_path}/none.sock"]
    words = {
        "before": [*flag, "history", "ls"],
        "between": ["history", *flag, "ls"],
        "after": ["history", "ls", *flag],
    }
    assert f"{tmp_path}/none.sock" in run(*words[place]).stderr


def test_no_answer_is_a_no(tmp_path: Path) -> None:
    """Without ``--force`` and without anybody to ask nothing is removed; the daemon is not even looked for."""
    done = run("-H", f"unix://{tmp_path}/none.sock", "prune")
    assert done.returncode == 0
    assert "nothing was removed" in done.stderr
    assert done.stdout.endswith("Are you sure you want to continue? [y/N] ")
