"""The build cache and the history of real daemons, from Python."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread

import buildkit_session as bk
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.daemon import Daemon
from buildkit_session.messages.moby.buildkit.v1 import BuildHistoryRequest
from buildkit_session.testing import start_daemon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from buildkit_session.testing import Buildkitd
    from buildkit_session.testing import Daemon as Started

pytestmark = pytest.mark.anyio


def write_context(folder: Path) -> Path:
    """A context whose results are in no cache yet."""
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY a /a\nCOPY b /b\n")
    (folder / "a").write_text(f"{time.time_ns()}")
    (folder / "b").write_text("b" * 5000)
    return folder


@pytest.fixture
async def client(daemon: Started) -> AsyncIterator[bk.Client]:
    async with bk.connect(daemon.address) as made:
        yield made


@pytest.fixture
async def remembering(c8d_daemon: Started) -> AsyncIterator[bk.Client]:
    """A client of a daemon with a history, whichever the others are."""
    async with bk.connect(c8d_daemon.address) as made:
        yield made


async def build(client: bk.Client, context: Path, **more: str) -> str:
    """Build without keeping the result; returns the id that the history has."""
    before = {record.ref for record in await client.history()}
    await client.build(context, outputs="type=cacheonly", **more)  # type: ignore[arg-type]
    (made,) = [record for record in await client.history() if record.ref not in before]
    return made.ref


async def test_what_a_build_leaves_in_the_cache(client: bk.Client, tmp_path: Path) -> None:
    """Its records can be seen, chosen by filters, and removed, and nothing else is touched."""
    before = await client.disk_usage()
    await client.build(write_context(tmp_path), outputs="type=cacheonly")
    known = {record.id for record in before}
    made = [record for record in await client.disk_usage() if record.id not in known]
    layers = [record for record in made if record.type == "regular"]
    assert len(layers) == 2
    smaller, larger = layers
    assert smaller.size < larger.size
    assert larger.parents == (smaller.id,)
    assert all(record.reclaimable and record.created and record.last_used for record in made)
    assert max(record.created or 0 for record in made) <= time.time_ns()

    assert [one.id for one in await client.disk_usage([f"id={larger.id}"])] == [larger.id]
    assert larger.id in {one.id for one in await client.disk_usage(["type=regular"])}
    assert larger.id not in {one.id for one in await client.disk_usage(["type!=regular"])}
    assert await client.disk_usage([f"id={larger.id}", "until=1h"]) == []

    mine = [f"id={larger.id}"]
    assert await client.prune(filters=mine, keep_duration=timedelta(hours=1)) == []
    seen: list[str] = []
    removed = await client.prune(filters=mine, on_record=lambda record: seen.append(record.id))
    assert [one.id for one in removed] == seen == [larger.id]
    assert removed[0].size == larger.size
    left = {record.id for record in await client.disk_usage()}
    assert left == (known | {record.id for record in made}) - {larger.id}


async def test_limits_that_the_daemon_does_not_know(client: bk.Client, daemon: Started, tmp_path: Path) -> None:
    """An old daemon would pass over them, and remove everything."""
    await client.build(write_context(tmp_path), outputs="type=cacheonly")
    before = {record.id for record in await client.disk_usage()}
    if daemon.version.startswith("20.10"):
        with pytest.raises(bk.UnsupportedError, match=r"needs BuildKit 0\.17"):
            await client.prune(max_used_space=1 << 50)
    else:
        assert await client.prune(max_used_space=1 << 50) == []
    assert {record.id for record in await client.disk_usage()} == before


async def test_a_filter_that_the_daemon_refuses(client: bk.Client) -> None:
    with pytest.raises(bk.RpcError):
        await client.disk_usage(["type=a,"])


async def test_a_build_is_remembered(remembering: bk.Client, tmp_path: Path) -> None:
    """It can be found, told apart from others, and its progress is that which the build had."""
    ref = await build(remembering, write_context(tmp_path))
    newest = (await remembering.history())[0]
    assert newest.ref == ref
    assert newest.state == bk.BuildState.COMPLETED
    assert newest.completed_steps == newest.total_steps > 0
    assert newest in await remembering.history(filters=[f"ref={ref}", "status=completed", "startedAt>1h"], limit=1)
    assert await remembering.history(filters=[f"ref={ref}", "status=error"]) == []
    assert await remembering.history(active_only=True) == []
    async with remembering.history_logs(ref) as events:
        names = {event.name async for event in events if isinstance(event, bk.Vertex)}
    assert {"[1/2] COPY a /a", "[2/2] COPY b /b"} <= names


async def test_a_failed_build_is_remembered(remembering: bk.Client, tmp_path: Path) -> None:
    write_context(tmp_path)
    (tmp_path / "b").unlink()
    with pytest.raises(bk.BuildError):
        await remembering.build(tmp_path, outputs="type=cacheonly")
    failed = (await remembering.history(filters=["status=error"]))[0]
    assert "/b" in failed.error
    assert failed.created is not None
    assert failed.created <= time.time_ns()
    await remembering.remove_history(failed.ref)


async def test_builds_are_forgotten(remembering: bk.Client, tmp_path: Path) -> None:
    """Those that are named, and no others; what is not known is said when the rest is done."""
    context = write_context(tmp_path)
    kept, gone = await build(remembering, context), await build(remembering, context)
    with pytest.raises(bk.InputError, match='no record found for ref "nonsense"'):
        await remembering.remove_history("nonsense", gone)
    refs = {record.ref for record in await remembering.history()}
    assert kept in refs
    assert gone not in refs
    await remembering.remove_history(kept)


async def test_a_record_that_is_only_marked_as_deleted(remembering: bk.Client, tmp_path: Path) -> None:
    """BuildKit 0.20 to 0.28 would die of a filter or a limit now (moby/buildkit#6598); it gets neither."""
    with start_daemon("newest") as daemon:
        async with bk.connect(daemon.address) as client:
            kept, gone = [await build(client, write_context(tmp_path)) for _ in range(2)]
            async with Daemon(find_endpoint(daemon.address)).link() as link:
                request = BuildHistoryRequest(ref=gone, early_exit=True)
                async with link.control.listen_build_history(request) as call:
                    assert await call.recv() is not None
            await client.remove_history(gone)
            found = await client.history(filters=["status=completed"], limit=2)
            assert [record.ref for record in found] == [kept]
            await client.build(tmp_path, outputs="type=cacheonly")


async def test_builds_are_pinned(remembering: bk.Client, tmp_path: Path) -> None:
    ref = await build(remembering, write_context(tmp_path))
    for pinned in (True, False):
        await remembering.pin_history(ref, pinned=pinned)
        assert [record.pinned for record in await remembering.history(filters=[f"ref={ref}"])] == [pinned]
    with pytest.raises(bk.InputError, match="no record found"):
        await remembering.pin_history("nonsense")


async def test_a_running_build_can_be_followed(remembering: bk.Client, tmp_path: Path, busybox: Path) -> None:
    """From elsewhere: its steps come while it runs, and the end of the build is the end of them."""
    await to_thread.run_sync(shutil.copy, busybox, tmp_path / "busybox")
    (tmp_path / "Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /\nRUN ["/busybox", "sh", "-c", "echo here; /busybox sleep 600"]\n'
    )
    async with remembering.start(tmp_path, outputs="type=cacheonly", network="none", no_cache=True) as running:
        async for event in running:
            if isinstance(event, bk.VertexLog):
                break
        (record,) = await remembering.history(active_only=True)
        assert record.state == bk.BuildState.RUNNING
        assert record.duration is None
        async with remembering.history_logs(record.ref) as events:
            async for event in events:
                if isinstance(event, bk.VertexLog):
                    assert event.data == b"here\n"
                    break
    canceled = await remembering.history(filters=[f"ref={record.ref}"])
    assert [one.state for one in canceled] in ([bk.BuildState.CANCELED], [bk.BuildState.RUNNING])


async def test_a_daemon_without_a_history(daemon: Started) -> None:
    if not daemon.version.startswith("20.10"):
        pytest.skip("it has one")
    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.UnsupportedError, match=r"build history needs BuildKit 0\.11 .* found Docker/20\.10"):
            await client.history()
        with pytest.raises(bk.UnsupportedError, match="build history needs"):
            async with client.history_logs("x"):
                pass
        with pytest.raises(bk.UnsupportedError, match="build history needs"):
            await client.remove_history("x")


async def test_the_way_without_the_api(daemon: Started) -> None:
    async with bk.connect(daemon.address, way="build") as client:
        with pytest.raises(bk.UnsupportedError, match="BuildKit's own API is needed"):
            await client.disk_usage()
        with pytest.raises(bk.UnsupportedError, match="BuildKit's own API is needed"):
            await client.history()


async def test_a_buildkitd(buildkitd: Buildkitd, tmp_path: Path) -> None:
    async with bk.connect(buildkitd.address) as client:
        ref = await build(client, write_context(tmp_path))
        assert {"regular", "source.local"} <= {record.type for record in await client.disk_usage()}
        await client.remove_history(ref)


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_that_is_none(limit: int, remembering: bk.Client) -> None:
    with pytest.raises(bk.InputError, match="limit must be a number of builds from 1 on"):
        await remembering.history(limit=limit)


async def test_cache_that_cannot_be_had_is_no_failure(client: bk.Client, tmp_path: Path) -> None:
    """The daemon fails the step that imports it, and no more; the result names it."""
    context = write_context(tmp_path)
    result = await client.build(context, cache_from=["type=bogus"], outputs="type=cacheonly")
    (warning,) = result.warnings
    assert warning.startswith("importing cache manifest")
    assert "bogus" in warning


async def test_annotations_need_an_output(client: bk.Client, tmp_path: Path) -> None:
    context = write_context(tmp_path)
    result = await client.build(context, annotations={"a": "b"})
    assert ["annotations" in warning.lower() for warning in result.warnings] == [True]
    assert not (await client.build(context, annotations={"a": "b"}, outputs="type=image")).warnings
