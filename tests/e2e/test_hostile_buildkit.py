"""BuildKit's own API in the hands of a daemon that lies, floods or falls silent: an answer or an error, in time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import pytest
from fake_buildkit import KINDS, answering, fake_buildkit, silent
from leftovers import nothing_left

import buildkit_session as bk
from buildkit_session.engine import control, history, provenance, solving
from buildkit_session.messages.containerd.services.content.v1 import WriteContentRequest, WriteContentResponse
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.messages.moby.filesync.v1 import BytesMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator
    from pathlib import Path

    from fake_buildkit import FakeBuildkit, Kind, Script

    from buildkit_session.grpc.incoming_call import IncomingCall

pytestmark = pytest.mark.anyio

T = TypeVar("T")

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


async def endless_history(call: IncomingCall[bytes, bytes]) -> None:
    record = v1.BuildHistoryRecord(ref="a")
    while True:
        await call.send(bytes(v1.BuildHistoryEvent(record=record)))
        await anyio.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("script", [silent, endless_history])
@pytest.mark.parametrize("question", [bk.Client.history, lambda client: client.provenance("a")])
async def test_a_history_without_an_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    script: Script,
    question: Callable[[bk.Client], Awaitable[object]],
) -> None:
    monkeypatch.setattr(control, "HISTORY_PATIENCE", 0.5)
    async with connected(tmp_path, {"Control/ListenBuildHistory": script}, kind) as (_, client):
        with pytest.raises(bk.RpcError) as caught:
            await question(client)
    assert caught.value.code == 4


async def test_more_builds_than_a_daemon_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_RECORDS", 10)

    async def script(call: IncomingCall[bytes, bytes]) -> None:
        for number in count():
            await call.send(bytes(v1.BuildHistoryEvent(record=v1.BuildHistoryRecord(ref=str(number)))))

    async with connected(tmp_path, {"Control/ListenBuildHistory": script}) as (_, client):
        with pytest.raises(bk.RemoteProtocolError, match="more than 10 builds"):
            await client.history()


async def test_a_blob_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PATIENCE", 0.3)
    scripts = {"Control/ListenBuildHistory": answering(recorded("linux/amd64")), "Content/Read": silent}
    async with connected(tmp_path, scripts) as (_, client):
        with pytest.raises(bk.RpcError) as caught:
            await client.provenance("a")
    assert caught.value.code == 4


async def test_more_platforms_than_there_are(tmp_path: Path) -> None:
    scripts = {"Control/ListenBuildHistory": answering(recorded(*map(str, range(1000)))), "Content/Read": silent}
    async with connected(tmp_path, scripts) as (_, client):
        with pytest.raises(bk.RemoteProtocolError, match="more than 64 platforms"):
            await client.provenance("a")


def recorded(*platforms: str) -> bytes:
    """A build with a statement for each platform."""
    statement = v1.BlobDescriptor(
        media_type="application/vnd.in-toto+json",
        digest=DIGEST,
        annotations={"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
    )
    results = {platform: v1.BuildResultInfo(attestations=[statement]) for platform in platforms}
    return bytes(v1.BuildHistoryEvent(record=v1.BuildHistoryRecord(ref="a", results=results)))


async def test_the_cause_of_an_image_that_was_not_written(context: Path, tmp_path: Path) -> None:
    """It is what went wrong here, and not what the daemon, which says nothing of it, made of that."""
    into = tmp_path / "layout"

    async def solve(call: IncomingCall[bytes, bytes]) -> None:
        session = await buildkit.session()
        into.mkdir(exist_ok=True)
        (into / "ingest").write_text("in the way of what is written")
        path = "/containerd.services.content.v1.Content/Write"
        metadata = [("buildkit-attachable-store-id", "export")]
        request = WriteContentRequest(ref="a", total=1, data=b"a")
        with pytest.raises(bk.RpcError):
            await session.unary(path, request, WriteContentResponse, metadata=metadata)
        await call.send(bytes(v1.SolveResponse()))

    async with connected(tmp_path, {"Control/Solve": solve, "Control/Status": answering(PROGRESS)}) as (
        buildkit,
        client,
    ):
        with pytest.raises(bk.TransferError, match="Not a directory"):
            await client.build(context, outputs=[bk.output.oci(into, tar=False)])


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@pytest.mark.parametrize(
    ("messages", "works"),
    [
        ([], False),
        ([b"\xff\xff\xff"], False),
        ([bytes(BytesMessage(b"HTTP/1.1 400 Bad Request\r\n\r\n"))], False),
        ([bytes(BytesMessage(bytes(15 * 1024 * 1024)))], False),
        ([bytes(BytesMessage(PREFACE[at : at + 1])) for at in range(len(PREFACE))], True),
        ([b""] * 100_000 + [bytes(BytesMessage(PREFACE))], True),
    ],
    ids=["ended", "no message", "no HTTP/2", "huge", "byte by byte", "empty ones"],
)
async def test_what_comes_through_a_tunnel(context: Path, messages: list[bytes], works: bool) -> None:
    """A session that cannot be spoken on ends its build."""
    heard = anyio.Event()

    async def session(call: IncomingCall[bytes, bytes]) -> None:
        for message in messages:
            await call.send(message)
        if messages:
            while await call.recv() is not None:
                heard.set()

    async def solve(call: IncomingCall[bytes, bytes]) -> None:
        await heard.wait()
        await anyio.sleep(0 if works else 5)
        await call.send(bytes(v1.SolveResponse()))

    scripts = {"Control/Session": session, "Control/Solve": solve, "Control/Status": answering(PROGRESS)}
    async with connected(context, scripts) as (_, client):
        if works:
            await client.build(context, outputs=NOTHING)
        else:
            with pytest.raises(bk.ConnectionClosed):
                await client.build(context, outputs=NOTHING)


class CancelledAt(Generic[T]):
    """An awaitable that cancels its task where it waits for the nth time."""

    def __init__(self, work: Awaitable[T], number: int) -> None:
        self._work = work
        self._number = number

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._work.__await__()
        resume: Callable[[], object] = partial(next, steps)
        for number in count():
            try:
                waits_for = resume()
            except StopIteration as end:
                result: T = end.value
                return result
            if number == self._number and (task := asyncio.current_task()) is not None:
                task.cancel()
            try:
                resume = partial(steps.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001 - for the work to see
                resume = partial(steps.throw, error)
        raise AssertionError


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelled_wherever_it_waits(context: Path, kind: Kind) -> None:
    """Nothing is left, and the daemon's calls are cancelled."""

    async def solve(call: IncomingCall[bytes, bytes]) -> None:
        await anyio.sleep(0.05)
        await call.send(bytes(v1.SolveResponse()))

    async def build(address: str) -> bk.BuildResult:
        async with bk.connect(address) as client:
            return await client.build(context, outputs=NOTHING)

    scripts = {"Control/Solve": solve, "Control/Status": answering(PROGRESS)}
    cancelled = 0
    for number in count():
        async with nothing_left(context), fake_buildkit(scripts, kind=kind) as buildkit:
            work = asyncio.gather(CancelledAt(build(buildkit.address), number), return_exceptions=True)
            (end,) = await work
            with anyio.fail_after(5):
                while buildkit.running:  # noqa: ASYNC110 - a reset has to arrive there
                    await anyio.sleep(0.01)
        if isinstance(end, bk.BuildResult):
            break
        assert isinstance(end, asyncio.CancelledError)
        cancelled += 1
    assert cancelled > 20


@pytest.mark.parametrize("kind", KINDS)
async def test_fifty_builds_at_once(context: Path, kind: Kind) -> None:
    running = 0
    all_run = anyio.Event()

    async def solve(call: IncomingCall[bytes, bytes]) -> None:
        nonlocal running
        running += 1
        if running == 50:
            all_run.set()
        await all_run.wait()
        await call.send(bytes(v1.SolveResponse({"containerimage.digest": DIGEST})))

    async with connected(context, {"Control/Solve": solve, "Control/Status": answering(PROGRESS)}, kind) as (_, client):
        ends = await asyncio.gather(*(client.build(context, outputs=NOTHING) for _ in range(50)))
    assert {end.image_id for end in ends} == {DIGEST}
    assert len({end.ref for end in ends}) == 50
