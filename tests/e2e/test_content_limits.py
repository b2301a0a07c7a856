"""Layouts that real daemons write to through the client: limits, full disks, and calls that are cut off."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from leftovers import nothing_left

import buildkit_session as bk
from buildkit_session.errors import RpcError
from buildkit_session.grpc.status import Status
from buildkit_session.services import content
from buildkit_session.services.content import Content
from buildkit_session.services.oci_index import resolve
from buildkit_session.services.oci_layout import OciLayout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.messages.containerd.services.content.v1 import WriteContentResponse
    from buildkit_session.services.oci_layout import Ingest
    from buildkit_session.testing import Buildkitd, Daemon

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
SIZE = 5 * MIB


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    (root / "big").write_bytes(os.urandom(SIZE))
    (root / "Dockerfile").write_text("FROM scratch\nCOPY big /\nCOPY Dockerfile /\n")
    return root


@pytest.fixture(params=["docker-containerd", "buildkitd"])
def address(request: pytest.FixtureRequest) -> str:
    """Daemons that can write layouts."""
    if request.param == "buildkitd":
        buildkitd: Buildkitd = request.getfixturevalue("buildkitd")
        return buildkitd.address
    daemon: Daemon = request.getfixturevalue("c8d_daemon")
    return daemon.address


async def build(address: str, context: Path, **arguments: Any) -> bk.BuildResult:
    async with bk.connect(address) as client:
        return await client.build(context, **arguments)


def unfinished(layout: Path) -> list[Path]:
    return list(layout.glob("ingest/*"))


@pytest.mark.parametrize("limit", ["max-size=1MiB", "max-entries=1"])
@pytest.mark.parametrize("kind", ["image", "cache"])
async def test_a_quota(address: str, context: Path, tmp_path: Path, kind: str, limit: str) -> None:
    """The build fails, as the daemon does not try again; the error is the limit's, and no more was written."""
    layout = tmp_path / "layout"
    arguments: dict[str, Any] = (
        {"outputs": [f"type=oci,tar=false,dest={layout},{limit}"]}
        if kind == "image"
        else {"cache_to": [f"type=local,dest={layout},{limit}"], "outputs": [bk.output.cacheonly()]}
    )
    async with nothing_left(tmp_path):
        with pytest.raises(bk.QuotaExceeded, match=f"raise max_.* in --{'output' if kind == 'image' else 'cache-to'}"):
            await build(address, context, **arguments)
    assert not (layout / "index.json").exists()
    blobs = [*layout.glob("blobs/sha256/*"), *layout.glob("ingest/*/data")]
    if limit.startswith("max-size"):
        assert sum(file.stat().st_size for file in blobs) <= MIB
    else:
        assert len(blobs) <= 1


async def test_what_is_allowed_is_written(address: str, context: Path, tmp_path: Path) -> None:
    """And it is free when it is there already."""
    cache = f"type=local,dest={tmp_path}/cache,mode=max,max-size={SIZE + MIB},max-entries=8"
    for _ in range(2):
        await build(address, context, cache_to=[cache], outputs=[bk.output.cacheonly()])
    resolve(tmp_path / "cache")


async def test_a_cache_that_may_fail_is_a_warning(address: str, context: Path, tmp_path: Path) -> None:
    """With ``ignore-error`` the daemon reports success, and the caller still learns that there is no cache, and why."""
    cache = f"type=local,dest={tmp_path}/cache,ignore-error=true,max-size=1MiB"
    result = await build(address, context, cache_to=[cache], outputs=[bk.output.cacheonly()])
    (warning,) = [warning for warning in result.warnings if "cache" in warning and "No output" not in warning]
    assert f"{tmp_path}/cache failed, which is ignored" in warning
    assert "more than 1048576 bytes" in warning


async def test_a_cache_that_is_not_there_is_no_success(
    address: str, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon may not notice, or not tell, that a blob was not written: here this side says that it has it already."""

    async def pretend(self: Content, call: IncomingCall[Any, Any]) -> None:
        await call.recv()
        raise RpcError(Status.ALREADY_EXISTS, "the blob exists")

    monkeypatch.setattr(Content, "_write", pretend)
    with pytest.raises(bk.TransferError, match="reports success, but blob sha256:"):
        await build(address, context, cache_to=[f"type=local,dest={tmp_path}/cache"], outputs=[bk.output.cacheonly()])
    with pytest.raises(bk.TransferError, match="reports success, but blob sha256:"):
        await build(address, context, outputs=[f"type=oci,tar=false,dest={tmp_path}/layout"])
    assert not (tmp_path / "cache" / "index.json").exists()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """One that is soon full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_a_full_disk(address: str, context: Path, disk: Path) -> None:
    """An end, not a try without end, as it is for UNAVAILABLE; and the disk is not left full."""
    with pytest.raises(bk.TransferError, match=f"cannot write to {disk}.*No space left") as caught:
        await build(address, context, outputs=[f"type=oci,tar=false,dest={disk}/layout"])
    assert "the client's disk is full" in str(caught.value.__cause__)
    assert unfinished(disk / "layout") == []


async def test_a_call_that_is_cut_off_is_gone_on_with(
    address: str, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next build: within one, BuildKit does not try again. Not a byte is sent twice."""
    cache = tmp_path / "cache"
    taken: list[int] = []
    refs: list[str] = []
    write, take, ingest = Content._write, content._Writer.take, OciLayout.ingest
    cut = [True]

    async def reset(self: Content, call: IncomingCall[Any, Any]) -> None:
        send = call.send

        async def until_cut(response: WriteContentResponse) -> None:
            if cut and response.offset >= 2 * MIB:
                call._stream.reset(8)
            await send(response)

        call.send = until_cut  # type: ignore[method-assign,assignment]  # a connection that fails at this very place
        await write(self, call)

    def counted(self: Any, request: Any) -> Any:
        taken.append(len(request.data))
        return take(self, request)

    def noted(self: OciLayout, ref: str) -> Ingest:
        refs.append(ref)
        return ingest(self, ref)

    monkeypatch.setattr(Content, "_write", reset)
    monkeypatch.setattr(content._Writer, "take", counted)
    monkeypatch.setattr(OciLayout, "ingest", noted)
    arguments: dict[str, Any] = {"cache_to": [f"type=local,dest={cache}"], "outputs": [bk.output.cacheonly()]}
    with pytest.raises(bk.BuildError):
        await build(address, context, **arguments)
    assert len(refs) == len(set(refs))
    held = sum(file.stat().st_size for file in cache.glob("ingest/*/data"))
    assert held >= 2 * MIB
    before = sum(taken)
    cut.clear()
    await build(address, context, **arguments)
    assert unfinished(cache) == []
    resolve(cache)
    assert sum(taken) - before < SIZE - held + 64 * 1024  # the rest of the layer, and documents


async def test_a_damaged_cache(address: str, context: Path, tmp_path: Path) -> None:
    """The daemon does without it where it can; why a step fails then is another matter."""
    cache = tmp_path / "cache"
    (context / "Dockerfile").write_text("FROM scratch\nCOPY big /\n")
    async with bk.connect(address) as client:
        await client.build(context, cache_to=[f"type=local,dest={cache}"], outputs=[bk.output.cacheonly()])
        await client.prune(all=True)
        largest = max((cache / "blobs/sha256").iterdir(), key=lambda file: file.stat().st_size)
        largest.chmod(0o644)
        largest.write_bytes(largest.read_bytes()[:-1] + b"x")
        out = bk.output.local(tmp_path / "out")
        caches = [f"type=local,src={cache}"]
        await client.build(context, cache_from=caches, outputs=[out])
        assert (tmp_path / "out/big").read_bytes() == (context / "big").read_bytes()
        await client.prune(all=True)
        with (context / "Dockerfile").open("a") as dockerfile:
            dockerfile.write("COPY none /\n")
        with pytest.raises(bk.BuildError, match="none"):
            await client.build(context, cache_from=caches, outputs=[out])


async def test_a_damaged_context_is_named(address: str, context: Path, tmp_path: Path) -> None:
    """As a build context there is no doing without it; of all that the daemon says the caller needs the place."""
    layout, derived = tmp_path / "layout", tmp_path / "derived"
    derived.mkdir()
    (derived / "Dockerfile").write_text("FROM base\nCOPY Dockerfile /derived\n")
    await build(address, context, outputs=[f"type=oci,tar=false,dest={layout}"])
    damaged = max((layout / "blobs/sha256").iterdir(), key=lambda file: file.stat().st_size)
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    contexts = {"base": f"oci-layout://{layout}"}
    async with bk.connect(address) as client:
        await client.prune(all=True)
        with pytest.raises(bk.TransferError, match=f"blob sha256:{damaged.name} of the OCI layout {layout} is damaged"):
            await client.build(derived, build_contexts=contexts, outputs=[bk.output.local(tmp_path / "out")])
