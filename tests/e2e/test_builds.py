"""Builds against real daemons: what goes well, what goes wrong, and what is left behind."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import signal
import tarfile
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from tricky_cases import tricky

import buildkit_session as bk
from buildkit_session import BuildKeywords

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

STEP = 'RUN ["/bin/busybox", "sh", "-c", "{}"]\n'


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    shutil.copy(busybox, root / "busybox")
    return root


def write_dockerfile(context: Path, *steps: str) -> None:
    lines = "".join(STEP.format(step) for step in steps)
    (context / "Dockerfile").write_text(f"FROM scratch\nCOPY busybox /bin/busybox\n{lines}")


async def test_tcp(private_daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """The session is served over TCP too."""
    write_dockerfile(context, "echo hello > /hello")
    async with bk.connect(private_daemon.tcp_address) as client:
        await client.build(context, network="none", outputs=[bk.output.local(tmp_path / "out")])
    assert (tmp_path / "out" / "hello").read_text() == "hello\n"


async def test_image_has_tags_labels_and_arguments(daemon: Daemon, context: Path) -> None:
    """A build without outputs makes an image in the Engine's store."""
    with (context / "Dockerfile").open("w") as file:
        file.write('FROM scratch AS one\nARG V\nENV V=$V\nCOPY busybox /b\nFROM one AS two\nLABEL two="2"\n')
    async with bk.connect(daemon.address) as client:
        first = await client.build(context, target="one", build_args={"V": "7"}, labels={"a": "b"}, tags=["bks-test:t"])
        second = await client.build(context, build_args={"V": "7"})
    assert first.image_id is not None
    assert first.image_id.startswith("sha256:")
    assert first.image_id != second.image_id


async def test_events_tell_the_story(daemon: Daemon, context: Path) -> None:
    """Vertices, their logs and their completion arrive as typed events, in order."""
    write_dockerfile(context, "echo to-out; echo to-err >&2")
    logs: dict[int, bytes] = {}
    names: list[str] = []
    async with bk.connect(daemon.address) as client, client.start(context, network="none", no_cache=True) as build:
        async for event in build:
            if isinstance(event, bk.VertexLog):
                logs[event.stream] = logs.get(event.stream, b"") + event.data
            if isinstance(event, bk.Vertex) and event.completed is not None:
                names.append(event.name)
                assert event.started is not None
                assert event.completed >= event.started
        result = await build.result()
    assert logs == {1: b"to-out\n", 2: b"to-err\n"}
    assert any("RUN" in name for name in names)
    assert result.image_id is not None


async def test_failing_step_is_named_with_its_log(daemon: Daemon, context: Path) -> None:
    write_dockerfile(context, "echo before; echo reason >&2; exit 7")
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.BuildError, match="exit code: 7") as caught:
            await client.build(context, network="none", no_cache=True)
    assert caught.value.step is not None
    assert "exit 7" in caught.value.step.name
    assert sorted(caught.value.step.log) == ["before", "reason"]


async def test_bad_dockerfile(daemon: Daemon, context: Path) -> None:
    (context / "Dockerfile").write_text("FRM scratch\n")
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.BuildError, match="unknown instruction: FRM"):
            await client.build(context)


async def test_unknown_target(daemon: Daemon, context: Path) -> None:
    write_dockerfile(context)
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.BuildError, match="nosuch"):
            await client.build(context, target="nosuch")


@pytest.mark.parametrize("missing", ["context", "Dockerfile", "file"])
async def test_missing_inputs(daemon: Daemon, context: Path, missing: str) -> None:
    """What is missing is named before anything is sent."""
    where = context / "none" if missing == "context" else context
    file = context / "Other" if missing == "file" else None
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.InputError, match=str(where if missing == "context" else context)):
            await client.build(where, file=file)


async def test_destination_is_a_file(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    write_dockerfile(context)
    (tmp_path / "taken").write_text("mine")
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.InputError, match="taken"):
            await client.build(context, outputs=[bk.output.local(tmp_path / "taken")])
    assert (tmp_path / "taken").read_text() == "mine"


async def test_full_disk_fails_the_build(daemon: Daemon, context: Path) -> None:
    """The error is ours, with the path; what the daemon made of it is its cause."""
    write_dockerfile(context)
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.TransferError, match="/dev/full") as caught:
            await client.build(context, outputs=["type=tar,dest=/dev/full"])
    assert isinstance(caught.value.__cause__, bk.BuildError)
    assert "/dev/full" not in str(caught.value.__cause__)


async def test_tar_to_a_file_object(daemon: Daemon, context: Path) -> None:
    write_dockerfile(context, "echo hello > /hello")
    archive = io.BytesIO()
    async with bk.connect(daemon.address) as client:
        await client.build(context, network="none", outputs=[bk.output.tar(archive)])
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        assert "hello" in tar.getnames()


async def test_failed_build_leaves_the_old_archive(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    write_dockerfile(context, "exit 1")
    (tmp_path / "out.tar").write_text("old")
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.BuildError):
            await client.build(context, network="none", outputs=[bk.output.tar(tmp_path / "out.tar")])
    assert (tmp_path / "out.tar").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["context", "out.tar"]


async def test_cancelling_the_task_cancels_the_daemons_build(daemon: Daemon, context: Path) -> None:
    """The step ends on the daemon, and no task of ours is left."""
    write_dockerfile(context, "while :; do echo tick; /bin/busybox sleep 0.05; done")
    ticks = 0
    before = asyncio.all_tasks()
    async with bk.connect(daemon.address) as client:
        with anyio.CancelScope() as scope:
            async with client.start(context, network="none", no_cache=True) as build:
                async for event in build:
                    if isinstance(event, bk.VertexLog):
                        ticks += 1
                        if ticks == 3:
                            scope.cancel()
        assert scope.cancelled_caught
        # The same step, asked for again, starts anew: a daemon that still ran it would have joined us to it.
        with anyio.CancelScope() as again:
            async with client.start(context, network="none") as build:
                async for event in build:
                    if isinstance(event, bk.VertexLog):
                        again.cancel()
        assert again.cancelled_caught
    assert asyncio.all_tasks() == before


async def test_leaving_the_block_cancels(daemon: Daemon, context: Path) -> None:
    write_dockerfile(context, "echo started; /bin/busybox sleep 300")
    async with bk.connect(daemon.address) as client:
        async with client.start(context, network="none", no_cache=True) as build:
            async for event in build:
                if isinstance(event, bk.VertexLog):
                    break
        assert not build.finished


@tricky(5)
async def test_session_outlives_health_checks(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """The daemon checks the session every second (20.10) or five; it must still be there for the export."""
    checked_twice = 3 if daemon.version.startswith("20.10") else 11  # seconds
    write_dockerfile(context, f"/bin/busybox sleep {checked_twice}; echo done > /done")
    async with bk.connect(daemon.address) as client:
        await client.build(context, network="none", no_cache=True, outputs=[bk.output.local(tmp_path / "out")])
    assert (tmp_path / "out" / "done").read_text() == "done\n"


@tricky(6)
async def test_many_builds_at_once(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """One client, ten builds, ten sessions."""
    (context / "Dockerfile").write_text("FROM scratch\nARG N\nCOPY busybox /b\nLABEL n=$N\n")
    async with bk.connect(daemon.address) as client, anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(build_one, client, context, number, tmp_path / str(number))
    digests = {hashlib.sha256((tmp_path / str(n) / "b").read_bytes()).digest() for n in range(10)}
    assert len(digests) == 1


async def build_one(client: bk.Client, context: Path, number: int, out: Path) -> None:
    await client.build(context, build_args={"N": str(number)}, outputs=[bk.output.local(out)])


async def test_two_outputs(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """An old daemon would make the first alone, and say nothing."""
    write_dockerfile(context)
    outputs: list[bk.output.Output] = [bk.output.local(tmp_path / "a"), bk.output.tar(tmp_path / "b.tar")]
    async with bk.connect(daemon.address) as client:
        if daemon.version.startswith("20.10"):
            with pytest.raises(bk.UnsupportedError, match="multiple outputs currently unsupported"):
                await client.build(context, outputs=outputs)
            assert not (tmp_path / "a").exists()
        else:
            await client.build(context, outputs=outputs, network="none")
            with tarfile.open(tmp_path / "b.tar") as archive:
                assert set(os.listdir(tmp_path / "a")) == {name for name in archive.getnames() if "/" not in name}


async def test_the_api_of_the_engine_makes_one_output(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    write_dockerfile(context)
    async with bk.connect(daemon.address, way="build") as client:
        with pytest.raises(bk.UnsupportedError, match="several outputs needs BuildKit's own API"):
            await client.build(context, outputs=[bk.output.local(tmp_path / "a"), bk.output.tar(tmp_path / "b.tar")])
    assert not (tmp_path / "a").exists()


async def test_daemon_killed_during_the_build(private_daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """The call ends with an error of ours, soon, and leaves nothing running."""
    write_dockerfile(context, "echo started; /bin/busybox sleep 300")
    pid = private_daemon.pid
    assert pid is not None

    def kill(event: bk.ProgressEvent) -> None:
        if isinstance(event, bk.VertexLog):
            os.kill(pid, signal.SIGKILL)

    out = bk.output.local(tmp_path / "out")
    async with bk.connect(private_daemon.address) as client:
        with anyio.fail_after(60), pytest.raises((bk.ConnectionClosed, bk.EngineError)):
            await client.build(context, network="none", no_cache=True, outputs=[out], on_event=kill)


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(bk.EngineUnreachable, match=r"none\.sock"):
        async with bk.connect(f"unix://{tmp_path}/none.sock"):
            pass


async def test_a_source_policy_is_kept_to(daemon: Daemon, tmp_path: Path) -> None:
    """BuildKit 0.8 ignores one without a word, so it is refused there."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nADD http://127.0.0.1:1/file /\n")
    rules = {"rules": [{"action": "DENY", "selector": {"identifier": "http://127.0.0.1:1/*"}}]}
    expected, text = (
        (bk.UnsupportedError, "a source policy needs BuildKit 0.11")
        if daemon.version.startswith("20.10")
        else (bk.BuildError, "denied by policy")
    )
    async with bk.connect(daemon.address) as client:
        with pytest.raises(expected, match=text):
            await client.build(tmp_path, source_policy=rules, outputs=["type=cacheonly"])


@pytest.mark.parametrize("way", [None, "build"])
async def test_settings_of_steps_hold_or_are_refused(
    daemon: Daemon, context: Path, tmp_path: Path, way: Literal["build"] | None
) -> None:
    """BuildKit 0.8 leaves them out without a word, whichever frontend the Dockerfile names."""
    write_dockerfile(context, "ulimit -n > /limit; /bin/busybox df -k /dev/shm > /shm")
    async with bk.connect(daemon.address, way=way) as client:
        if not daemon.version.startswith("20.10"):
            out = [bk.output.local(tmp_path / "out")]
            await client.build(context, network="none", ulimits="nofile=99", shm_size="3m", outputs=out)
            assert (tmp_path / "out" / "limit").read_text() == "99\n"
            assert " 3072 " in (tmp_path / "out" / "shm").read_text()
            return
        for keywords in (BuildKeywords(ulimits="nofile=99"), BuildKeywords(shm_size="3m")):
            with pytest.raises(bk.UnsupportedError, match=r"BuildKit 0.10 \(Docker 23.0\); found"):
                await client.build(context, **keywords)
        with pytest.raises(bk.UnsupportedError, match="a cgroup parent needs"):
            await client.build(context, network="none", cgroup_parent="bks")
        await client.build(context, network="none")


async def test_a_named_context_works_or_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    """The frontend of Docker 20.10 knows none, and says so in a text alone."""
    for name, text in (("Dockerfile", "FROM scratch\nCOPY --from=lib f /\n"), ("lib/f", "x")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    async with bk.connect(daemon.address) as client:
        build = client.build(
            tmp_path, build_contexts={"lib": tmp_path / "lib"}, outputs=[bk.output.local(tmp_path / "out")]
        )
        if daemon.version.startswith("20.10"):
            with pytest.raises(
                bk.UnsupportedError, match=r"a named build context needs .* '# syntax=docker/dockerfile"
            ):
                await build
        else:
            await build
            assert (tmp_path / "out" / "f").read_text() == "x"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x28\xb5\x2f\xfd" + bytes(2000), "use tar, as it is or compressed by gzip"),
        (b"\x7fELF\0", "neither an archive"),
    ],
)
async def test_a_stream_that_is_no_context(daemon: Daemon, content: bytes, text: str) -> None:
    """A daemon would take it for a Dockerfile, and 28.5 ends the connection over it."""
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.InputError, match=text):
            await client.build(io.BytesIO(content))


@pytest.mark.parametrize("name", ["frontend_attrs", "proxies"])
async def test_values_that_are_no_texts(daemon: Daemon, name: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    values: Any = {name: {"a": 5}}
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.InputError, match=f"{name}: the value of 'a' must be a text"):
            await client.build(tmp_path, **values)
