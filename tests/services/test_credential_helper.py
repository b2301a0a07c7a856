"""Helpers are real programs here; what they may do wrong, they do."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from buildkit_session.errors import InputError
from buildkit_session.services.credential_helper import MAX_OUTPUT, ask_helper, find_helper
from buildkit_session.services.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anyio.abc import Process

pytestmark = pytest.mark.anyio

ANSWER = """echo '{"ServerURL":"x","Username":"alice","Secret":"hunter2"}'"""


def install(directory: Path, script: str) -> dict[str, str]:
    """Make ``docker-credential-test`` of a shell script; returns the environment to find it in."""
    program = directory / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:/usr/bin:/bin"}


async def test_a_helper_answers(tmp_path: Path) -> None:
    """It is asked for ``get``, on its input and up to the end of that, and nothing is added."""
    script = f'test "$1" = get && test "$(cat; echo .)" = "https://index.docker.io/v1/." && {ANSWER}'
    found = await ask_helper("test", "https://index.docker.io/v1/", install(tmp_path, script))
    assert found == Credentials("alice", "hunter2")


async def test_an_identity_token(tmp_path: Path) -> None:
    found = await ask_helper("test", "a", install(tmp_path, """echo '{"Username":"<token>","Secret":"t"}'"""))
    assert found == Credentials("", "", "t")


async def test_a_helper_need_not_read_its_input(tmp_path: Path) -> None:
    assert await ask_helper("test", "a" * 1_000_000, install(tmp_path, f"exec 0<&-; {ANSWER}")) is not None


async def test_nothing_is_kept_for_the_host(tmp_path: Path) -> None:
    environ = install(tmp_path, "echo 'credentials not found in native keychain'; exit 1")
    assert await ask_helper("test", "a", environ) is None


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo hunter2; exit 3", "status 3"),
        ("echo 'credentials not found in native keychain' >&2; exit 1", "status 1"),
        ("echo hunter2", "as a credential helper does"),
        ("echo '[\"hunter2\"]'", "as a credential helper does"),
        ("""echo '{"Username":"alice","Secret":["hunter2"]}'""", "as a credential helper does"),
        ("exit 0", "as a credential helper does"),
        ("head -c 100000 /dev/zero | tr '\\0' '['", "as a credential helper does"),
        ("""echo '{"Username":"alice","Secret":"hunter2\\ud800"}'""", "as a credential helper does"),
        (f"echo hunter2; head -c {MAX_OUTPUT + 1} /dev/zero; sleep 300", "more than"),
        ("kill -KILL $$", "status -9"),
    ],
)
async def test_a_fault_is_an_error_that_shows_nothing(tmp_path: Path, script: str, complaint: str) -> None:
    """AU-11, AU-12: and nothing it has said counts."""
    with pytest.raises(InputError, match=complaint) as caught:
        await ask_helper("test", "reg.example", install(tmp_path, script))
    assert "reg.example" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


async def test_a_missing_helper(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="docker-credential-test is not installed"):
        await ask_helper("test", "a", {"PATH": str(tmp_path)})


async def test_a_helper_that_is_no_program(tmp_path: Path) -> None:
    environ = install(tmp_path, "")
    (tmp_path / "docker-credential-test").write_text("#!/none\n")
    with pytest.raises(InputError, match="cannot be run"):
        await ask_helper("test", "a", environ)


@pytest.mark.parametrize("suffix", ["", "../test", "a/b", ".", "-x", "a b", "a\n", "a\0", "a;b", "x" * 200])
async def test_names_that_lead_elsewhere(suffix: str) -> None:
    """AU-09."""
    with pytest.raises(InputError, match="not the name of a credential helper"):
        await ask_helper(suffix, "a", {"PATH": "/usr/bin"})


async def test_only_absolute_directories_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AU-09: a build context must not bring its own."""
    install(tmp_path, ANSWER)
    monkeypatch.chdir(tmp_path)
    assert find_helper("test", {"PATH": ".::bin"}) is None
    assert find_helper("test", {"PATH": f".:{tmp_path}"}) == str(tmp_path / "docker-credential-test")


@pytest.mark.parametrize("ended_by", ["patience", "cancellation", "cancelled start"])
async def test_a_stuck_helper_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    """AU-10: the child holds the output open, so its parent's end alone would not do."""
    if ended_by == "cancelled start":
        start = anyio.open_process

        async def slow_start(*args: Any, **options: Any) -> Process:
            process = await start(*args, **options)
            await until((tmp_path / "pids").exists)
            await anyio.sleep(0.1)
            return process

        monkeypatch.setattr(anyio, "open_process", slow_start)
    environ = install(tmp_path, f"sleep 300 & echo $! $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pids; wait")
    if ended_by == "patience":
        with pytest.raises(InputError, match="no answer for a within 2 s"):
            await ask_helper("test", "a", environ, patience=2)
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_helper, "test", "a", environ)
            await until((tmp_path / "pids").exists)
            tasks.cancel_scope.cancel()
    for pid in (tmp_path / "pids").read_text().split():
        await until(lambda pid=int(pid): not is_running(pid))  # type: ignore[misc]


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not true():  # noqa: ASYNC110 - a process says nothing
            await anyio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def test_an_agent_that_a_helper_starts_lives_on(tmp_path: Path) -> None:
    environ = install(tmp_path, f"sleep 300 >/dev/null 2>&1 & echo $! >{tmp_path}/pid; {ANSWER}")
    assert await ask_helper("test", "a", environ) is not None
    pid = int((tmp_path / "pid").read_text())
    assert is_running(pid)
    os.kill(pid, 9)
