"""BuildKit's own API in the hands of a daemon that lies, floods or falls silent: an answer or an error, in time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from fake_buildkit import KINDS, answering, fake_buildkit
from leftovers import nothing_left

import buildkit_session as bk
from buildkit_session.engine import solving
from buildkit_session.messages.moby.buildkit import v1

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fake_buildkit import FakeBuildkit, Kind, Script

    from buildkit_session.grpc.incoming_call import IncomingCall


pytestmark = pytest.mark.anyio

DIGEST = f"sha256:{'a' * 64}"
SOLVED = answering(bytes(v1.SolveResponse({"containerimage.digest": DIGEST})))
PROGRESS = bytes(v1.StatusResponse(vertexes=[v1.Vertex(digest="sha256:1", name="a step")]))
EMPTY_PARTS = b"\x0a\x00" * (8 * 1024 * 1024 - 100)  # sixteen MiB on the wire, some thousand in memory
NOTHING = [bk.output.cacheonly()]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    return root


@asynccontextmanager
async def connected(
    folder: Path, scripts: dict[str, Script], kind: Kind = "direct"
) -> AsyncIterator[tuple[FakeBuildkit, bk.Client]]:
    """A client of a daemon that does as the scripts say; in the end nothing is left."""
    async with (
        nothing_left(folder),
        fake_buildkit(scripts, kind=kind) as buildkit,
        bk.connect(buildkit.address) as client,
    ):
        yield buildkit, client


async def endless(call: IncomingCall[bytes, bytes]) -> None:
    while True:
        await call.send(PROGRESS)
        await anyio.sleep(0.01)


async def flood(call: IncomingCall[bytes, bytes]) -> None:
    while True:
        await call.send(b"")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [endless, flood])
async def test_progress_that_goes_on_after_the_end(
    context: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, status: Script
) -> None:
    """A build that has ended is over, however much is told of it."""
    monkeypatch.setattr(solving, "LINGER", 0.3)
    async with connected(context, {"Control/Solve": SOLVED, "Control/Status": status}, kind) as (_, client):
        assert (await client.build(context, outputs=NOTHING)).image_id == DIGEST


async def test_progress_for_a_slow_caller(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that the caller takes is not counted: all that the daemon has sent arrives."""
    monkeypatch.setattr(solving, "LINGER", 0.2)
    monkeypatch.setattr(solving, "BACKLOG", 1)

    async def status(call: IncomingCall[bytes, bytes]) -> None:
        for _ in range(20):
            await call.send(PROGRESS)
            await anyio.sleep(0.01)

    seen = []

    async def slowly(event: bk.ProgressEvent) -> None:
        seen.append(event)
        await anyio.sleep(0.05)

    async with connected(context, {"Control/Solve": SOLVED, "Control/Status": status}) as (_, client):
        await client.build(context, outputs=NOTHING, on_event=slowly)
    assert len(seen) == 20


@pytest.mark.parametrize("method", ["Solve", "Status", "ListWorkers"])
async def test_messages_that_grow_in_memory(context: Path, method: str) -> None:
    """Millions of empty parts are refused before anything is made of them."""
    scripts = {"Control/Solve": SOLVED, "Control/Status": answering(PROGRESS)}
    scripts[f"Control/{method}"] = answering(EMPTY_PARTS)
    async with nothing_left(context), fake_buildkit(scripts) as buildkit:
        with pytest.raises(bk.SessionError, match=r"cannot decode|cannot be decoded"):
            async with bk.connect(buildkit.address) as client:
                await client.build(context, outputs=NOTHING)
