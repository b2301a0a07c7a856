"""Builds with a daemon that dies, lies or floods; and what must hold after each: nothing is left, nothing is harmed."""

from __future__ import annotations

import os
import pty
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
from fake_buildkit import fake_buildkit, silent
from fake_engine import (
    FILE_SEND,
    FILE_SYNC,
    WAYS,
    ControlPeer,
    FakeEngine,
    Http,
    Post,
    SessionPeer,
    Solve,
    entry,
    fake_engine,
)
from leftovers import nothing_left
from scripted_peer import grpc_message
from scripted_server import data, message
from tricky_cases import tricky

import buildkit_session as bk
from buildkit_session import build as build_module
from buildkit_session.client import Client
from buildkit_session.engine import daemon as daemon_module
from buildkit_session.engine import hijack as hijack_module
from buildkit_session.engine import solving as solving_module
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.http2 import keepalive as keepalive_module
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType
from buildkit_session.messages.moby.buildkit.v1 import StatusResponse, Vertex, VertexLog
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.messages.nanotime import Timestamp
from buildkit_session.testing import start_daemon

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from buildkit_session.engine.daemon import Way
    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

BIG = 8 * 1024 * 1024  # bytes; more than the windows and socket buffers of a session hold
GONE = (bk.ConnectionClosed, bk.EngineError)
IMAGE = f"sha256:{1:064x}"
EXPORTER = b"buildkit-attachable-exporter-id"


async def whole_build(folder: Path) -> None:
    """A new build in the same process works."""

    async def script(engine: FakeEngine) -> None:
        session = await engine.session()
        answer = await engine.build()
        await session.finish_sync(await session.file_sync(b"context"))
        await session.export_tree({b"hello": b"world", b"empty": b""})
        await answer.end()

    out = folder / "after"
    async with fake_engine(script) as engine, bk.connect(engine.address) as client:
        await client.build(folder / "context", outputs=[bk.output.local(out)])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"hello": b"world", "empty": b""}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """How the client asks for its builds."""
    chosen: Way = request.param
    return chosen


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    with (root / "big").open("wb") as file:
        file.truncate(BIG)
    return root


# -- an Engine that goes away at each step ----------------------------------------------------------------------------

Asked = Post | Solve | ControlPeer | None
STARTED = Vertex(digest="sha256:1", name="[1/1] RUN true", started=Timestamp(seconds=1))
STEPS = ["upgrade", "switched", "asked", "answered", "upload", "run", "export", "fin"]


class Reached(Exception):
    """The step where the Engine goes away."""


class Mortal:
    """Does a build as real Engines do, up to a step.

    Attributes:
        session, build: the two connections of the build, once they exist.
    """

    def __init__(self, until: str, *, tar: bool) -> None:
        self.session: Http | None = None
        self.build: Asked = None
        self._until = until
        self._tar = tar

    async def live(self, engine: FakeEngine) -> None:
        self.session = await engine.asked_session()
        self._reach("upgrade")
        peer = await engine.take_up(self.session)
        self._reach("switched")
        self.build = await engine.asked_build()
        self._reach("asked")
        await self.build.begin()
        self._reach("answered")
        stream = await peer.file_sync(b"context")
        peer.returns_credit = self._until != "upload"
        await request_all(peer, stream)
        await peer.until(lambda: len(peer.answers[stream].data) > 1000)
        self._reach("upload")
        await peer.until(lambda: len(peer.answers[stream].data) > BIG)
        await peer.finish_sync(stream)
        await self.build.trace(StatusResponse(vertexes=[STARTED]))
        self._reach("run")
        await (self._export_tar(peer) if self._tar else self._export_tree(peer))

    async def _export_tar(self, peer: SessionPeer) -> None:
        stream = await peer.start(FILE_SEND, (EXPORTER, b"0"))
        await peer.send(stream, grpc_message(bytes(BytesMessage(data=bytes(BIG // 4)))))
        self._reach("export")

    async def _export_tree(self, peer: SessionPeer) -> None:
        stream = await peer.start(FILE_SEND, (EXPORTER, b"0"))
        await peer.send_listing(stream, entry(b"a"), entry(b"b", size=BIG))
        await peer.until(lambda: peer.requested(stream) == [0, 1])
        await peer.send_content(stream, 0, b"")
        await peer.send_content(stream, 1, bytes(100_000))
        self._reach("export")
        await peer.send_content(stream, 1, *[bytes(BIG // 8)] * 7, bytes(BIG // 8 - 100_000), b"")
        await peer.until(lambda: peer.has_fin(stream))
        self._reach("fin")

    def _reach(self, step: str) -> None:
        if step == self._until:
            raise Reached


async def request_all(peer: SessionPeer, stream: int) -> None:
    """Ask for the content of every file of a listing."""
    names = peer.names(stream)
    await peer.send_packets(stream, *(Packet(type=PacketPacketType.PACKET_REQ, id=n) for n in range(len(names))))


def close_both(session: Http, build: Asked) -> None:
    session.close()
    if build is not None:
        build.close()


def close_session(session: Http, _build: Asked) -> None:
    session.close()


def close_build(_session: Http, build: Asked) -> None:
    assert build is not None
    build.close()


def reset_both(session: Http, build: Asked) -> None:
    session.reset()
    if build is not None:
        build.reset()


def half_close_both(session: Http, build: Asked) -> None:
    session.half_close()
    if build is not None:
        build.half_close()


LOSSES = [close_both, close_session, close_build, reset_both, half_close_both]
CASES = [
    pytest.param(step, loss, tar, id=f"{step}-{loss.__name__}-{'tar' if tar else 'local'}")
    for tar in (False, True)
    for step in STEPS
    for loss in LOSSES
    if not (loss is close_build and step in ("upgrade", "switched"))  # it does not exist yet
    if not (tar and step not in ("export", "run"))  # what comes before is the same
]


@pytest.mark.parametrize(("step", "loss", "tar"), CASES)
async def test_engine_goes_away(  # noqa: PLR0917 - pytest passes them by name
    context: Path, tmp_path: Path, step: str, loss: Callable[[Http, Asked], None], tar: bool, way: str
) -> None:
    """The build fails with an error that says so, whichever connection is lost; no half export, nothing left."""
    mortal = Mortal(step, tar=tar)

    async def script(engine: FakeEngine) -> None:
        with suppress(Reached):
            await mortal.live(engine)
        assert mortal.session is not None
        loss(mortal.session, mortal.build or engine.link)

    dest = tmp_path / "dest"
    output = bk.output.tar(dest) if tar else bk.output.local(dest)
    async with nothing_left(tmp_path):
        async with fake_engine(script, way=way, tcp=loss is reset_both) as engine, bk.connect(engine.address) as client:
            with pytest.raises(GONE):
                await client.build(context, outputs=[output])
        await whole_build(tmp_path)
    if tar:
        assert not dest.exists()
    elif dest.exists():
        assert {path.name for path in dest.iterdir()} <= ({"a", "b"} if step == "fin" else {"a"})


# -- an Engine that is silent -----------------------------------------------------------------------------------------


async def test_silent_ping(tmp_path: Path, context: Path) -> None:
    async def script(engine: FakeEngine) -> None:
        engine.pings = False

    async with nothing_left(tmp_path):
        async with fake_engine(script) as engine:
            with pytest.raises(bk.EngineUnreachable, match="no answer in time"):
                async with Client(daemon_module.Daemon(find_endpoint(engine.address), patience=0.3)):
                    pass
        await whole_build(tmp_path)


async def test_silent_buildkit(tmp_path: Path, context: Path) -> None:
    """An Engine whose BuildKit says nothing is left on this way, and it is told why; builds take the other."""

    async def script(engine: FakeEngine) -> None:
        engine.workers = False
        await engine.session()
        answer = await engine.build()
        await answer.end()

    async with nothing_left(tmp_path), fake_engine(script) as engine:
        daemon = daemon_module.Daemon(find_endpoint(engine.address), patience=0.3)
        async with Client(daemon) as client:
            await client.build(context)
            info = await client.info()
    assert info.way == "build"
    assert "no answer in time" in info.refused[0]


async def test_silent_buildkitd(tmp_path: Path, context: Path) -> None:
    """There is no other way to it."""
    async with nothing_left(tmp_path):
        async with fake_buildkit({"Control/ListWorkers": silent}, kind="direct") as buildkit:
            with pytest.raises(bk.EngineUnreachable, match="no answer in time"):
                async with Client(daemon_module.Daemon(find_endpoint(buildkit.address), patience=0.3)):
                    pass
        await whole_build(tmp_path)


async def test_silent_upgrade(tmp_path: Path, context: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    async def script(engine: FakeEngine) -> None:
        await engine.asked_session()

    monkeypatch.setattr(hijack_module, "PATIENCE", 0.3)
    async with nothing_left(tmp_path), fake_engine(script, way=way) as engine, bk.connect(engine.address) as client:
        with pytest.raises(bk.UpgradeRefused, match="answered nothing"):
            await client.build(context)


async def test_a_build_in_silence_can_be_cancelled(tmp_path: Path, context: Path, way: str) -> None:
    """Also while the daemon reads nothing of what it asked for, and while it does not answer the cancellation."""
    asked = anyio.Event()

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        await engine.asked_build()
        peer.returns_credit = False
        await request_all(peer, await peer.file_sync(b"context"))
        peer.stop_reading()
        asked.set()

    async with nothing_left(tmp_path):
        async with fake_engine(script, way=way) as engine, bk.connect(engine.address) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.build, context)
                await asked.wait()
                tasks.cancel_scope.cancel()
            assert engine.cancellations == 1
        await whole_build(tmp_path)


async def test_a_daemon_that_has_stopped(
    tmp_path: Path, context: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """Its connections stay, but nothing is heard any more: the build does not wait for ever."""

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        await answer.trace(StatusResponse(vertexes=[STARTED]))
        peer.stop_reading()
        if engine.link is not None:
            engine.link.stop_reading()
        await anyio.sleep_forever()

    monkeypatch.setattr(keepalive_module, "IDLE", 0.2)
    monkeypatch.setattr(keepalive_module, "PATIENCE", 0.2)
    async with nothing_left(tmp_path), fake_engine(script, way=way) as engine, bk.connect(engine.address) as client:
        with pytest.raises(bk.ConnectionClosed):
            await client.build(context)


@pytest.mark.parametrize("status", ["stalled", "refused"])
async def test_a_build_ends_without_its_progress(
    tmp_path: Path, context: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """How it ended is said by the other call; this one is waited for, but not for long."""

    async def script(engine: FakeEngine) -> None:
        await engine.session()
        answer = await engine.build()
        assert isinstance(answer, Solve)
        await answer.image(IMAGE)
        if status == "refused":
            await answer.end_status([(b"grpc-status", b"5"), (b"grpc-message", b"no such job")])
        await answer.succeed()
        await anyio.sleep_forever()

    monkeypatch.setattr(solving_module, "DRAIN", 0.3)
    async with nothing_left(tmp_path), fake_engine(script) as engine, bk.connect(engine.address) as client:
        assert (await client.build(context)).image_id == IMAGE


# -- an Engine that lies about the export -----------------------------------------------------------------------------


async def nothing_exported(_peer: SessionPeer) -> None:
    pass


async def half_and_reset(peer: SessionPeer) -> None:
    stream = await begin_export(peer)
    await peer.reset(stream)


async def half_and_ended(peer: SessionPeer) -> None:
    stream = await begin_export(peer)
    await peer.send(stream, b"", end=True)


async def half_and_open(peer: SessionPeer) -> None:
    await begin_export(peer)


async def half_then_whole(peer: SessionPeer) -> None:
    await half_and_reset(peer)
    await peer.export_tree({b"a": b"whole"})


async def begin_export(peer: SessionPeer) -> int:
    stream = await peer.start(FILE_SEND)
    await peer.send_listing(stream, entry(b"a", size=10), entry(b"b", size=10))
    await peer.until(lambda: peer.requested(stream) == [0, 1])
    await peer.send_content(stream, 0, b"half")
    await peer.ping()
    return stream


async def unknown_exporter(peer: SessionPeer) -> None:
    answer = await peer.call(FILE_SEND, extra=[(EXPORTER, b"7")])
    assert (answer.status, answer.message) == (b"2", b"exporter 7 not found")


async def bytes_for_a_directory(peer: SessionPeer) -> None:
    answer = await peer.call(FILE_SEND, bytes(BytesMessage(data=b"text")))
    assert answer.status not in (None, b"0")


async def escape(peer: SessionPeer) -> None:
    stream = await peer.start(FILE_SEND)
    await peer.send_listing(stream, entry(b"../outside"))
    assert (await peer.answer(stream)).status not in (None, b"0")


@tricky(28)
@pytest.mark.parametrize(
    "export",
    [
        nothing_exported,
        half_and_reset,
        half_and_ended,
        half_and_open,
        half_then_whole,
        unknown_exporter,
        bytes_for_a_directory,
        escape,
    ],
)
async def test_success_is_not_believed(
    context: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    export: Callable[[SessionPeer], Awaitable[object]],
    way: str,
) -> None:
    """An answer that says success counts only with a whole export; nothing else is written."""

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        await export(peer)
        await answer.end()

    monkeypatch.setattr(build_module, "EXPORT_PATIENCE", 0.3)
    dest = tmp_path / "dest"
    async with nothing_left(tmp_path):
        async with fake_engine(script, way=way) as engine, bk.connect(engine.address) as client:
            with pytest.raises((bk.TransferError, bk.RemoteProtocolError)):
                await client.build(context, outputs=[bk.output.local(dest)])
        if dest.exists():
            assert [path.name for path in dest.iterdir()] == (["a"] if export is half_then_whole else [])
        assert not (tmp_path / "outside").exists()
        await whole_build(tmp_path)


async def test_packets_for_a_file(context: Path, tmp_path: Path) -> None:
    """A directory sent where a tar was asked for makes no file."""

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        stream = await peer.start(FILE_SEND)
        await peer.send_listing(stream, entry(b"a"))
        await peer.send(stream, b"", end=True)
        assert (await peer.answer(stream)).status not in (None, b"0")
        await answer.end()

    async with nothing_left(tmp_path), fake_engine(script) as engine, bk.connect(engine.address) as client:
        with pytest.raises(bk.RemoteProtocolError):
            await client.build(context, outputs=[bk.output.tar(tmp_path / "dest")])
    assert not (tmp_path / "dest").exists()


async def test_export_that_nobody_asked_for(context: Path, tmp_path: Path, way: str) -> None:
    """An image build serves no export; the attempt is refused and harms nothing."""
    before = sorted(os.walk(tmp_path))

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        assert (await peer.call(FILE_SEND, bytes(BytesMessage(data=b"text")))).status == b"12"
        await answer.image(IMAGE)
        await answer.end()

    async with nothing_left(tmp_path), fake_engine(script, way=way) as engine, bk.connect(engine.address) as client:
        assert (await client.build(context)).image_id == IMAGE
    assert sorted(os.walk(tmp_path)) == before


@tricky(32)
async def test_two_exports_of_one_exporter_merge(context: Path, tmp_path: Path) -> None:
    """One comes per platform, at the same time."""

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer.export_tree, {b"a": b"1"}, (EXPORTER, b"0"))
            tasks.start_soon(peer.export_tree, {b"b": b"2"}, (EXPORTER, b"0"))
        await answer.end()

    dest = tmp_path / "dest"
    async with nothing_left(tmp_path), fake_engine(script) as engine, bk.connect(engine.address) as client:
        await client.build(context, outputs=[bk.output.local(dest)])
    assert {path.name: path.read_bytes() for path in dest.iterdir()} == {"a": b"1", "b": b"2"}


async def test_session_lost_after_the_last_word(context: Path, tmp_path: Path, way: str) -> None:
    """Once the export is confirmed and the answer has ended, a connection that goes away is no failure."""

    async def script(engine: FakeEngine) -> None:
        session = await engine.asked_session()
        peer = await engine.take_up(session)
        answer = await engine.build()
        await peer.export_tree({b"a": b"1"})
        await answer.end()
        session.close()

    async with nothing_left(tmp_path), fake_engine(script, way=way) as engine, bk.connect(engine.address) as client:
        await client.build(context, outputs=[bk.output.local(tmp_path / "dest")])
    assert (tmp_path / "dest" / "a").read_bytes() == b"1"


# -- an Engine that asks for too much ---------------------------------------------------------------------------------


async def hold(tmp_path: Path, ask: Callable[[SessionPeer], Awaitable[object]]) -> None:
    """Let a daemon ask during a build that then succeeds, and look at what is left."""

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        await ask(peer)
        await answer.end()

    async with nothing_left(tmp_path):
        async with fake_engine(script) as engine, bk.connect(engine.address) as client:
            await client.build(tmp_path / "context")
        await whole_build(tmp_path)


@pytest.mark.parametrize("name", [b"", b"/", b"..", b"context/..", b"Context", b"/etc", b"context\xff"])
async def test_directories_that_are_not_shared(context: Path, tmp_path: Path, name: bytes) -> None:
    async def ask(peer: SessionPeer) -> None:
        answer = await peer.call(FILE_SYNC, extra=[(b"dir-name", name)])
        assert answer.status == b"5"
        assert not answer.data

    await hold(tmp_path, ask)


@pytest.mark.parametrize(
    "path", [b"../secret", b"/../secret", b"big/../../secret", b"link", b"up/secret", b"../*", b"*/../../secret"]
)
@pytest.mark.parametrize("key", [b"followpaths", b"include-patterns"])
async def test_nothing_outside_is_read(context: Path, tmp_path: Path, path: bytes, key: bytes) -> None:
    """Not by patterns, not through links; links themselves are listed, and have no content."""
    (tmp_path / "secret").write_text("secret")
    (context / "link").symlink_to("../secret")
    (context / "up").symlink_to("..")

    async def ask(peer: SessionPeer) -> None:
        stream = await peer.file_sync(b"context", (key, path))
        assert set(peer.names(stream)) <= {b"Dockerfile", b"big", b"link", b"up"}
        links = [n for n, name in enumerate(peer.names(stream)) if name in (b"link", b"up")]
        await peer.send_packets(stream, *(Packet(type=PacketPacketType.PACKET_REQ, id=n) for n in links))
        if not links:
            await peer.finish_sync(stream)
        assert b"secret" not in bytes((await peer.answer(stream)).data).replace(b"../secret", b"")

    await hold(tmp_path, ask)


@tricky(27)
async def test_fifty_listings_at_once(context: Path, tmp_path: Path) -> None:
    """Each is whole, also when all are open at the same time."""

    async def ask(peer: SessionPeer) -> None:
        streams: list[int] = []

        async def one() -> None:
            streams.append(await peer.file_sync(b"context"))

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(one)
        for stream in streams:
            assert peer.names(stream) == [b"Dockerfile", b"big"]
            assert (await peer.finish_sync(stream)).status == b"0"

    await hold(tmp_path, ask)


@pytest.mark.parametrize("numbers", [[0] * 10_000, [7], [4_000_000_000], [0, 1, 0]])
async def test_requests_without_end(context: Path, tmp_path: Path, numbers: list[int]) -> None:
    """An entry has content once; whoever asks again, or for none, is refused."""

    async def ask(peer: SessionPeer) -> None:
        stream = await peer.file_sync(b"context")
        await peer.send_packets(stream, *(Packet(type=PacketPacketType.PACKET_REQ, id=n) for n in numbers))
        answer = await peer.answer(stream)
        assert answer.status not in (None, b"0")
        assert peer.packets(stream)[-1].type == PacketPacketType.PACKET_ERR

    await hold(tmp_path, ask)


# -- an Engine that talks nonsense ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"<html>\n",
        b'{"id": nonsense}\n',
        b"[" * 100_000 + b"\n",
        b'{"n": ' + b"1" * 100_000 + b"}\n",
        b'{"id":"moby.buildkit.trace","aux":"?"}\n',
        b'{"id":"moby.buildkit.trace","aux":"////"}\n',
        b'{"id":"moby.buildkit.trace","aux":{}}\n',
        b'{"stream":"' + b"x" * (40 << 20) + b'"}\n',
    ],
    ids=["html", "syntax", "nested", "number", "base64", "protobuf", "kind", "40-MiB"],
)
async def test_answers_that_are_not_progress(context: Path, tmp_path: Path, body: bytes) -> None:
    async def script(engine: FakeEngine) -> None:
        await engine.session()
        answer = await engine.build()
        assert isinstance(answer, Post)
        await answer.send_raw(body)
        await answer.end()

    await nonsense(script, context, way="build")


def fields_of_progress(data: bytes) -> bytes:
    """A message with one vertex, which is these bytes."""
    return b"\x0a" + len(data).to_bytes(1, "big") + data


@pytest.mark.parametrize(
    "frames",
    [
        lambda stream: message(stream, b"\xff\xff\xff\xff"),
        lambda stream: message(stream, fields_of_progress(b"\x0a\x7f")),
        lambda stream: message(stream, fields_of_progress(b"\x1a\x02\xff\xfe")),
        lambda stream: data(stream, b"\1" + bytes(4)),
        lambda stream: data(stream, b"\0" + (40 << 20).to_bytes(4, "big")),
    ],
    ids=["protobuf", "cut", "text", "compressed", "40-MiB"],
)
async def test_statuses_that_are_not_progress(context: Path, tmp_path: Path, frames: Callable[[int], bytes]) -> None:
    async def script(engine: FakeEngine) -> None:
        await engine.session()
        answer = await engine.build()
        assert isinstance(answer, Solve)
        await answer.peer.write(frames(answer.progress))
        await anyio.sleep_forever()  # a daemon goes on: it has noticed nothing

    await nonsense(script, context, way="hijack")


async def nonsense(script: Callable[[FakeEngine], Awaitable[None]], context: Path, *, way: str) -> None:
    """The build fails at once, with a short text, and is cancelled in the daemon."""
    async with nothing_left(context.parent):
        async with fake_engine(script, way=way) as engine, bk.connect(engine.address) as client:
            with pytest.raises(bk.RemoteProtocolError) as caught:
                await client.build(context)
            assert len(str(caught.value)) < 1000
            with anyio.fail_after(5):
                while engine.cancellations != 1:  # noqa: ASYNC110 - the fake has no bell
                    await anyio.sleep(0.01)
        await whole_build(context.parent)


DRAWN = re.compile("\x1b\\[(?:\\?25[lh]|[KJ]|[0-9]*A|[0-9]+(?:;[0-9]+)*m)")
"""What the display of a terminal draws with."""

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\r\x00\x08" + "x" * 100_000
FAILED = Vertex(
    digest="sha256:1",
    name=f"RUN {HOSTILE[:24]}",
    started=Timestamp(seconds=1),
    completed=Timestamp(seconds=2),
    error=HOSTILE,
)


async def fail_hostile(engine: FakeEngine) -> None:
    await engine.session()
    answer = await engine.build()
    await answer.trace(
        StatusResponse(vertexes=[FAILED], logs=[VertexLog(vertex="sha256:1", msg=HOSTILE[:24].encode())])
    )
    await answer.fail(HOSTILE)
    await answer.end()


async def test_hostile_text_is_data(context: Path, tmp_path: Path, way: str) -> None:
    """The library hands it on, cut."""
    async with (
        nothing_left(tmp_path),
        fake_engine(fail_hostile, way=way) as engine,
        bk.connect(engine.address) as client,
    ):
        with pytest.raises(bk.BuildError) as caught:
            await client.build(context)
    assert caught.value.message.startswith(HOSTILE[:24])
    assert len(caught.value.message) < 5000
    assert caught.value.step is not None
    assert len(caught.value.step.error) < 5000


@pytest.mark.parametrize("progress", ["plain", "tty"])
async def test_hostile_text_does_not_reach_a_terminal(
    context: Path, tmp_path: Path, *, way: str, progress: str
) -> None:
    """The command shows it escaped, whichever display draws it."""
    ours, theirs = pty.openpty()
    try:
        async with (
            nothing_left(tmp_path),
            fake_engine(fail_hostile, way=way) as engine,
            anyio.create_task_group() as tasks,
        ):
            shown = bytearray()
            tasks.start_soon(anyio.to_thread.run_sync, read_terminal, ours, shown)
            args = [sys.executable, "-m", "buildkit_session", "build", "--progress", progress, str(context)]
            environ = {**os.environ, "DOCKER_HOST": engine.address}
            done = await anyio.run_process(args, check=False, env=environ, stdout=theirs, stderr=theirs)
            os.write(theirs, b"THE END")
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1
    text = DRAWN.sub("", bytes(shown).decode())
    assert "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202egnp" in text
    assert not set("\x1b\x07\x9b\u202e\x00\x08") & set(text)


def read_terminal(descriptor: int, into: bytearray) -> None:
    while not into.endswith(b"THE END"):
        into += os.read(descriptor, 65536)


# -- cancellation at any moment, on real daemons ----------------------------------------------------------------------

CANCELLED = 60  # builds
AT_ONCE = 4


@pytest.mark.timeout(300)
async def test_cancelled_at_random_moments(daemon: Daemon, busybox: Path, tmp_path: Path) -> None:
    """Every call ends, and afterwards all is as before and a whole build works."""
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(busybox, context / "busybox")
    step = '["/bin/busybox", "sh", "-c", "echo $N > /n; /bin/busybox dd if=/dev/zero of=/big bs=1M count=8"]'
    lines = ["FROM scratch", "COPY busybox /bin/busybox", "ARG N", f"RUN {step}"]
    (context / "Dockerfile").write_text("\n".join(lines))
    chance = random.Random(20)  # noqa: S311 - a seed, so that a failure can be had again
    numbers = list(range(CANCELLED))
    cancelled = 0

    async def builds(client: bk.Client) -> None:
        nonlocal cancelled
        while numbers:
            number = numbers.pop()
            dest = tmp_path / f"dest-{number}"
            output = bk.output.tar(dest) if number % 2 else bk.output.local(dest)
            with anyio.move_on_after(chance.uniform(0, 1.2)) as scope:
                await client.build(context, network="none", build_args={"N": f"{number}"}, outputs=[output])
            cancelled += scope.cancelled_caught

    async with nothing_left(tmp_path), bk.connect(daemon.address) as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(builds, client)
        assert cancelled > 0
        await client.build(context, network="none", build_args={"N": "7"}, outputs=[bk.output.local(tmp_path / "out")])
    assert (tmp_path / "out" / "n").read_text() == "7\n"
    assert (tmp_path / "out" / "big").stat().st_size == 8 << 20


# -- a disk that is full ---------------------------------------------------------------------------------------------


async def test_a_full_disk(daemon: Daemon, context: Path, tmp_path: Path, way: Way) -> None:
    """The build fails for the reason that this side has, whatever the daemon makes of it, and can be had again."""
    async with nothing_left(tmp_path), bk.connect(daemon.address, way=way) as client:
        # Opening this takes no time.
        with open("/dev/full", "wb", 0) as full, pytest.raises(bk.TransferError, match="No space left"):  # noqa: ASYNC230
            await client.build(context, outputs=[bk.output.tar(full)])
        await client.build(context, outputs=[bk.output.tar(tmp_path / "whole.tar")])
    assert (tmp_path / "whole.tar").stat().st_size > BIG


# -- TLS --------------------------------------------------------------------------------------------------------------


def certificates(folder: Path) -> None:
    """Make an authority, and a server and a client that it vouches for, as docker's documentation does."""
    folder.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2")
    for name, extension in (
        ("server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"),
        ("client", "extendedKeyUsage=clientAuth\n"),
    ):
        (folder / "extension").write_text(extension)
        openssl("req", *key, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signer = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "extension", "-days", "2")
        openssl("x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.pem")
    shutil.copy(folder / "client.pem", folder / "cert.pem")
    shutil.copy(folder / "client-key.pem", folder / "key.pem")


@pytest.fixture
def tls_daemon(private_daemons: None, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that demands certificates of both sides, those in ``tmp_path/certs``."""
    certs = tmp_path / "certs"
    certificates(certs)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    files = {"--tlscacert": "ca.pem", "--tlscert": "server.pem", "--tlskey": "server-key.pem"}
    tls = [f"{flag}={certs / name}" for flag, name in files.items()]
    with start_daemon(extra_args=["-H", address, "--tlsverify", *tls]) as daemon:
        yield replace(daemon, tcp_address=address)


def use_tls(monkeypatch: pytest.MonkeyPatch, daemon: Daemon, certs: Path) -> None:
    """Set what a user of the docker CLI sets."""
    monkeypatch.setenv("DOCKER_HOST", str(daemon.tcp_address))
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certs))


async def test_session_over_tls(
    tls_daemon: Daemon, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of the docker CLI lead there: both connections of a build are encrypted and checked."""
    use_tls(monkeypatch, tls_daemon, tmp_path / "certs")
    dest = tmp_path / "dest"
    async with nothing_left(tmp_path), bk.connect() as client:
        await client.build(context, outputs=[bk.output.local(dest)])
        with anyio.move_on_after(0.05):
            await client.build(context, no_cache=True)
    assert (dest / "big").stat().st_size == BIG


async def test_tls_fails_closed(
    tls_daemon: Daemon, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that our authority does not vouch for gets no request."""
    certificates(tmp_path / "others")
    use_tls(monkeypatch, tls_daemon, tmp_path / "others")
    async with nothing_left(tmp_path):
        with pytest.raises(bk.EngineUnreachable, match="DOCKER_CERT_PATH"):
            async with bk.connect():
                pass


async def test_silence_over_tls(
    tls_daemon: Daemon, busybox: Path, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that is stopped in the middle of a build says no farewell; nobody waits for it."""
    use_tls(monkeypatch, tls_daemon, tmp_path / "certs")
    shutil.copy(busybox, context / "busybox")
    # Quiet after one line: what arrives during the farewell would end it.
    step = '["/busybox", "sh", "-c", "echo started; /busybox sleep 300"]'
    (context / "Dockerfile").write_text(f"FROM scratch\nCOPY busybox /\nRUN {step}\n")
    pid = tls_daemon.pid
    assert pid is not None
    try:
        async with nothing_left(tmp_path), bk.connect() as client, client.start(context, network="none") as build:
            async for event in build:
                if isinstance(event, bk.VertexLog):
                    os.kill(pid, signal.SIGSTOP)
                    break
    finally:
        os.kill(pid, signal.SIGCONT)
