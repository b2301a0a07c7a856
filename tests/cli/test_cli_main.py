"""The program as a process, as far as no daemon is needed: streams, exit codes, what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import buildkit_session

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM = [sys.executable, "-m", "buildkit_session"]


def run(*words: str, cwd: Path | str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    hidden = ("BUILDKIT_", "DOCKER_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environ |= {"PYTHONPATH": os.getcwd(), **variables}
    return subprocess.run([*_PROGRAM, *words], cwd=cwd, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["-D", "--help"]])
def test_without_a_command_it_explains_itself(words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage:  buildkit-session [OPTIONS] COMMAND\n")
    assert "  build     Start a build\n" in done.stdout


def test_the_help_of_build_names_every_flag_in_eighty_columns() -> None:
    done = run("build", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage:  buildkit-session build [OPTIONS] PATH | URL | -\n\nStart a build\n")
    assert "  -t, --tag NAME[:TAG]" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_is_a_command_too() -> None:
    assert run("help", "history", "ls").stdout == run("history", "ls", "--help").stdout
    assert run("help").stdout == run("--help").stdout


def test_what_needs_no_daemon_offers_no_address() -> None:
    assert "--host" not in run("plan", "--help").stdout
    assert "--host" in run("info", "--help").stdout


@pytest.mark.parametrize("word", ["--version", "-v", "version"])
def test_the_version_is_the_packages(word: str) -> None:
    assert run(word).stdout == f"buildkit-session {buildkit_session.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["build", "--no-cahce", "."], "unknown flag: --no-cahce; did you mean --no-cache?"),
        (["build", "--nope", "."], "unknown flag: --nope"),
        (["build", "-x", "."], "unknown shorthand flag: 'x' in -x"),
        (["build", ".", "-t"], "flag needs an argument: 't' in -t"),
        (["build", "--pull=maybe", "."], "invalid argument 'maybe' for --pull: expected true or false"),
    ],
)
def test_a_broken_flag_exits_like_docker(words: list[str], message: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.splitlines()[0] == message
    assert "Run 'buildkit-session" in done.stderr


def test_flags_that_mean_nothing_are_ignored_with_a_warning() -> None:
    done = run("build", "--squash", "--isolation=default", "--rm", "-o", "type=local", ".")
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == ["WARNING: isolation flag is ignored", "WARNING: squash flag is ignored"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope"], "unknown command: 'nope'; there is: build"),
        (["biuld"], "unknown command: 'biuld'; did you mean build?"),
        (["build"], "'buildkit-session build' requires 1 argument"),
        (["build", "a", "b"], "'buildkit-session build' requires 1 argument"),
        (["build", "-o", "type=local", "."], "failed to build: dest is required for local exporter"),
        (["build", "-q", "--progress=plain", "."], "failed to build: progress=plain and quiet cannot be used together"),
        (["build", "--network=x", "."], 'failed to build: network mode "x" not supported'),
        (["build", "--secret=src=x", "."], "failed to build: secret missing ID"),
        (["build", "--push", "."], "failed to build: tag is needed when pushing to registry"),
        (
            ["build", "--iidfile=id", "-oout", "."],
            "failed to build: local and tar exporters are incompatible with image ID file",
        ),
    ],
)
def test_a_wrong_value_exits_with_one_line_of_reason(words: list[str], message: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ERROR: {message}")
    assert "Traceback" not in done.stderr


def test_debug_adds_where_it_was_raised() -> None:
    done = run("build", "--debug", "-o", "type=local", ".")
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: failed to build: dest is required for local exporter")
    assert "Traceback" in done.stderr


def test_a_missing_daemon_exits_with_the_address_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    done = run("-H", f"unix://{tmp_path}/none.sock", "build", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ERROR: failed to build: ")
    assert f"{tmp_path}/none.sock" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_old_id_is_removed_before_anything_can_fail(tmp_path: Path) -> None:
    old = tmp_path / "id"
    old.write_text("sha256:old")
    assert run("-H", f"unix://{tmp_path}/none.sock", "build", "--iidfile", str(old), str(tmp_path)).returncode == 1
    assert not old.exists()


def test_an_id_file_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    done = run("build", "--iidfile", str(tmp_path), str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"ERROR: failed to build: removing image ID file: {tmp_path}: ")


def test_nobody_reads() -> None:
    """As the shell reports it for any program that a closed pipe ends, and in silence."""
    process = subprocess.Popen([*_PROGRAM, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_a_full_disk_below_standard_output() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*_PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "ERROR: writing the output: No space left on device\n")


@pytest.mark.parametrize(
    "words", [["--help"], ["build", "--help"], ["build", "--nope"], ["build", "-otype=local", "."]]
)
def test_help_and_mistakes_do_not_load_the_client(words: list[str]) -> None:
    program = (
        "import sys; from buildkit_session.cli import main; main(sys.argv[1:]);"
        "print(*{'asyncio', 'anyio', 'aiohttp', 'h2', 'betterproto2'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
