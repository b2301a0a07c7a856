"""Questions to the frontend in place of a build, put by this library to real daemons."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import anyio
import pytest
from leftovers import nothing_left

import buildkit_session as bk
from buildkit_session.errors import BuildError, InputError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Buildkitd, Daemon, ReferenceClient

pytestmark = pytest.mark.anyio

WARNED = "FROM scratch AS base\nMAINTAINER me\n# out ships\nFROM base AS out\nARG A=1\n"
PATIENCE = 30


@pytest.fixture
def newest(daemon: Daemon) -> Daemon:
    if daemon.version.startswith("20.10"):
        pytest.skip("the frontend of Docker 20.10 knows no calls")
    return daemon


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(WARNED)
    return tmp_path


@pytest.mark.parametrize(
    "call", ["check", "outline", "outline,format=json", "targets", "targets,format=json", "subrequests.describe"]
)
async def test_same_answer_as_buildx(
    call: str, newest: Daemon, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    theirs = reference.build(newest.address, f"--call={call}", context, check=False)
    async with nothing_left(tmp_path), bk.connect(newest.address) as client:
        ours = await client.call(context, call=call, network="none")
    assert (ours.text, ours.exit_code) == (theirs.stdout, theirs.returncode)


async def test_a_check(newest: Daemon, context: Path) -> None:
    async with bk.connect(newest.address) as client:
        answer = await client.check(context)
    assert [finding.rule for finding in answer.report.findings] == ["MaintainerDeprecated"]
    assert answer.report.findings[0].place is not None
    assert answer.report.findings[0].place.file.filename == str(context / "Dockerfile")
    assert isinstance(answer.value, dict)
    assert answer.exit_code == 1


async def test_a_check_of_what_cannot_be_built(newest: Daemon, reference: ReferenceClient, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nFOO\n")
    theirs = reference.build(newest.address, "--check", context, check=False)
    async with bk.connect(newest.address) as client:
        answer = await client.check(context)
    assert answer.report.failed
    assert theirs.stderr.endswith(f"ERROR: {answer.error}\n")
    assert answer.exit_code == theirs.returncode == 1


async def test_an_error_that_is_no_answer(newest: Daemon, reference: ReferenceClient, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nFOO\n")
    theirs = reference.build(newest.address, "--call=outline", context, check=False)
    async with bk.connect(newest.address) as client:
        with pytest.raises(BuildError) as caught:
            await client.call(context, call="outline")
    assert theirs.stderr.endswith(f"ERROR: failed to build: failed to solve: {caught.value.message}\n")


async def test_progress_and_arguments(newest: Daemon, context: Path) -> None:
    events: list[object] = []
    async with bk.connect(newest.address) as client:
        answer = await client.call(context, call="outline,format=json", build_args={"A": "2"}, on_event=events.append)
    assert '"value": "2"' in answer.text
    assert any(isinstance(event, bk.Vertex) and "load build definition" in event.name for event in events)


async def test_a_dockerfile_from_a_stream(newest: Daemon) -> None:
    async with bk.connect(newest.address) as client:
        answer = await client.call(io.BytesIO(WARNED.encode()), call="check")
    assert "\nDockerfile:2\n" in answer.text


async def test_nothing_is_exported_or_remembered(
    newest: Daemon, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    command = ("buildx", "history", "ls", "--no-trunc", "--format={{.Ref}}")
    before = reference.run(newest.address, *command).stdout
    async with bk.connect(newest.address) as client:
        await client.call(context, call="targets", outputs=[bk.output.local(tmp_path / "out")], tags="t")
    assert not (tmp_path / "out").exists()
    assert reference.run(newest.address, *command).stdout == before


async def test_a_question_that_no_frontend_knows(newest: Daemon, context: Path) -> None:
    async with bk.connect(newest.address) as client:
        with pytest.raises(UnsupportedError, match=r"does not know the request frontend\.nonsense"):
            await client.call(context, call="nonsense")


async def test_an_old_frontend(daemon: Daemon, context: Path) -> None:
    if not daemon.version.startswith("20.10"):
        pytest.skip("newer ones know calls")
    async with bk.connect(daemon.address) as client:
        with pytest.raises(UnsupportedError, match=r"frontend\.outline needs a newer frontend"):
            await client.call(context, call="outline")


async def test_what_is_no_question(daemon: Daemon, context: Path) -> None:
    async with bk.connect(daemon.address) as client:
        with pytest.raises(InputError, match="asks for a build"):
            await client.call(context, call="build")


async def test_the_api_of_the_engine_has_no_answers(daemon: Daemon, context: Path) -> None:
    async with bk.connect(daemon.address, way="build") as client:
        with pytest.raises(UnsupportedError, match="BuildKit's own API is needed"):
            await client.call(context, call="check")


async def test_buildkitd(buildkitd: Buildkitd, context: Path) -> None:
    async with bk.connect(buildkitd.address) as client:
        assert (await client.check(context)).exit_code == 1


async def test_leaving_early(newest: Daemon, context: Path, tmp_path: Path) -> None:
    """Nothing stays, whenever the question is given up."""
    async with nothing_left(tmp_path), bk.connect(newest.address) as client:
        for delay in (0, 0.01, 0.03, 0.1):
            with anyio.move_on_after(delay), anyio.fail_after(PATIENCE):
                await client.check(context)
