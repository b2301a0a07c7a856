"""What a daemon sees of a build: what is advertised, in which order calls end, and when the connection does."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import h2.events
import pytest
from fake_engine import FILE_SEND, WAYS, FakeEngine, SessionPeer, entry, fake_engine
from leftovers import nothing_left
from scripted_peer import grpc_message
from tricky_cases import tricky

import buildkit_session as bk
from buildkit_session.errors import RpcError
from buildkit_session.grpc.status import Status
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType
from buildkit_session.messages.moby.filesync.v1 import BytesMessage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scripted_peer import Answer

pytestmark = pytest.mark.anyio

OLD_LIMIT = 4 * 1024 * 1024  # bytes; the largest message that daemons before BuildKit 0.13 take
NEW_LIMIT = 16 * 1024 * 1024
BIG = 9 * 1024 * 1024
WINDOW = 65535  # what the scripted daemon takes unless it gives credit back


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    (root / "Dockerfile").write_text("FROM scratch\n")
    with (root / "big").open("wb") as file:
        file.truncate(BIG)
    return root


async def request_big(peer: SessionPeer, *extra: tuple[bytes, bytes]) -> int:
    """Ask for the content of the second entry."""
    stream = await peer.file_sync(b"context", *extra)
    assert peer.names(stream) == [b"Dockerfile", b"big"]
    await peer.send_packets(stream, Packet(type=PacketPacketType.PACKET_REQ, id=1))
    return stream


async def send_pieces(peer: SessionPeer, stream: int, *pieces: bytes, end: bool = False) -> None:
    """Send pieces of a file."""
    await peer.send(stream, b"".join(grpc_message(bytes(BytesMessage(data=piece))) for piece in pieces), end=end)


# -- how a session begins ---------------------------------------------------------------------------------------------

OUTPUTS: dict[str, Callable[[Path], bk.output.Output]] = {
    "local": bk.output.local,
    "tar": bk.output.tar,
    "listing": lambda _path: bk.output.listing(),
}


@tricky(7)
@pytest.mark.parametrize("kind", OUTPUTS)
async def test_files_are_expected_under_an_advertised_method(context: Path, tmp_path: Path, kind: str) -> None:
    """A daemon that finds FileSend missing may hang for ever, so every output that it sends files for names it."""
    heads: list[bytes] = []

    async def script(engine: FakeEngine) -> None:
        session = await engine.asked_session()
        heads.append(session.head)
        session.close()

    async with fake_engine(script) as engine, bk.connect(engine.address) as client:
        with pytest.raises(bk.UpgradeRefused):
            await client.build(context, outputs=[OUTPUTS[kind](tmp_path / "dest")])
    assert b"\r\nX-Docker-Expose-Session-Grpc-Method: /moby.filesync.v1.FileSend/DiffCopy\r\n" in heads[0]


# -- how messages look ------------------------------------------------------------------------------------------------


@tricky(26)
async def test_messages_that_any_daemon_can_read(context: Path, tmp_path: Path) -> None:
    """Below the limit of old daemons, however large the file, and plain, whatever compression is offered."""
    answers: list[Answer] = []

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        stream = await request_big(peer, (b"grpc-accept-encoding", b"gzip"))
        await peer.until(lambda: len(peer.answers[stream].data) > BIG)
        answers.append(await peer.finish_sync(stream))
        await answer.end()

    async with nothing_left(tmp_path), fake_engine(script) as engine, bk.connect(engine.address) as client:
        await client.build(context)
    assert max(map(len, answers[0].bodies)) < OLD_LIMIT
    assert dict(answers[0].headers).get(b"grpc-encoding", b"identity") == b"identity"


@tricky(26)
async def test_messages_as_large_as_new_daemons_send(context: Path, tmp_path: Path) -> None:
    body = bytes(BytesMessage(data=bytes(NEW_LIMIT - 5)))
    assert len(body) == NEW_LIMIT

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        assert (await peer.call(FILE_SEND, body)).status == b"0"
        await answer.end()

    dest = tmp_path / "dest"
    async with nothing_left(tmp_path), fake_engine(script) as engine, bk.connect(engine.address) as client:
        await client.build(context, outputs=[bk.output.tar(dest)])
    assert dest.stat().st_size == NEW_LIMIT - 5


# -- how exports end --------------------------------------------------------------------------------------------------


async def assert_unanswered(peer: SessionPeer, stream: int) -> None:
    """Nothing has ended the call, and nothing will unless the daemon goes on."""
    await anyio.wait_all_tasks_blocked()
    await peer.ping()
    answer = peer.answers[stream]
    assert (answer.status, answer.ended, answer.reset) == (None, False, None)


@tricky(28)
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "open"])
async def test_a_directory_is_confirmed_after_the_daemons_fin(context: Path, tmp_path: Path, reset: bool) -> None:
    """Trailers right behind our FIN would fail the build; behind the daemon's FIN it may reset, as it always does."""

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        stream = await peer.start(FILE_SEND)
        await peer.send_listing(stream, entry(b"a", size=1))
        await peer.until(lambda: peer.requested(stream) == [0])
        await peer.send_content(stream, 0, b"1", b"")
        await peer.until(lambda: peer.has_fin(stream))
        await assert_unanswered(peer, stream)
        await peer.send_fin(stream)
        if reset:
            await peer.reset(stream)
        else:
            assert (await peer.answer(stream)).status == b"0"
        await answer.end()

    async with nothing_left(tmp_path), fake_engine(script) as engine, bk.connect(engine.address) as client:
        await client.build(context, outputs=[bk.output.local(tmp_path / "dest")])
    assert (tmp_path / "dest/a").read_bytes() == b"1"


@tricky(29)
async def test_a_file_is_confirmed_when_it_is_in_its_place(context: Path, tmp_path: Path) -> None:
    """It appears only behind the daemon's END_STREAM, and before the status that confirms it."""
    dest = tmp_path / "dest"

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        stream = await peer.start(FILE_SEND)
        await send_pieces(peer, stream, b"ab", b"", b"c")
        await assert_unanswered(peer, stream)
        assert not dest.exists()
        await peer.send(stream, b"", end=True)
        assert (await peer.answer(stream)).status == b"0"
        assert dest.read_bytes() == b"abc"
        await answer.end()

    async with nothing_left(tmp_path), fake_engine(script) as engine, bk.connect(engine.address) as client:
        await client.build(context, outputs=[bk.output.tar(dest)])


class Slow:
    """A writer that has written only when it is told so."""

    def __init__(self) -> None:
        self.done = anyio.Event()

    async def write(self, _data: bytes) -> None:
        await anyio.lowlevel.checkpoint()

    async def flush(self) -> None:
        await self.done.wait()


@tricky(29)
async def test_a_file_is_confirmed_when_its_writer_has_written(context: Path, tmp_path: Path) -> None:
    """What fails in the end must still fail the build."""
    writer = Slow()

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        stream = await peer.start(FILE_SEND)
        await send_pieces(peer, stream, b"abc", end=True)
        await assert_unanswered(peer, stream)
        writer.done.set()
        assert (await peer.answer(stream)).status == b"0"
        await answer.end()

    async with nothing_left(tmp_path), fake_engine(script) as engine, bk.connect(engine.address) as client:
        await client.build(context, outputs=[bk.output.tar(writer)])


class Refusing:
    """A writer that speaks the daemon's language."""

    def write(self, _data: bytes) -> None:
        raise RpcError(Status.ALREADY_EXISTS, "it is there")


@tricky(30)
@pytest.mark.parametrize("kind", ["tar", "local"])
async def test_a_refused_export_is_never_one_that_was_there(context: Path, tmp_path: Path, kind: str) -> None:
    """Some exporters take ALREADY_EXISTS for success: neither is it sent, nor is such a success believed."""
    dest = tmp_path / "dest"
    output = bk.output.tar(Refusing()) if kind == "tar" else bk.output.local(dest)

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        dest.touch()  # in the way of a directory
        stream = await peer.start(FILE_SEND)
        if kind == "tar":
            await send_pieces(peer, stream, b"x")
        status = (await peer.answer(stream)).status
        assert status is not None
        assert int(status) not in (Status.OK, Status.ALREADY_EXISTS)
        await answer.end()

    async with nothing_left(tmp_path), fake_engine(script) as engine, bk.connect(engine.address) as client:
        with pytest.raises(bk.TransferError):
            await client.build(context, outputs=[output])


# -- how builds end ---------------------------------------------------------------------------------------------------


def opened(path: Path) -> bool:
    """Whether this process has a file open."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}") == str(path):
                return True
    return False


@tricky(41)
async def test_a_reset_upload_lets_go_of_its_file_and_keeps_the_session(context: Path, tmp_path: Path) -> None:
    """As when a daemon cancels a step: its transfer stops, wherever it was; other calls go on, and new ones come."""

    async def script(engine: FakeEngine) -> None:
        peer = await engine.session()
        answer = await engine.build()
        peer.returns_credit = False
        other = await peer.file_sync(b"context")
        stream = await request_big(peer)
        await peer.until(lambda: len(peer.answers[stream].data) > WINDOW // 2)
        assert opened(context / "big")
        peer.returns_credit = True
        peer.h2.increment_flow_control_window(WINDOW)  # the connection's; daemons give it on receipt
        await peer.reset(stream)
        while opened(context / "big"):
            await anyio.lowlevel.checkpoint()
        assert (await peer.finish_sync(other)).status == b"0"
        assert (await peer.finish_sync(await peer.file_sync(b"context"))).status == b"0"
        await answer.end()

    async with nothing_left(tmp_path), fake_engine(script) as engine, bk.connect(engine.address) as client:
        await client.build(context)


@tricky(42)
@pytest.mark.parametrize("way", WAYS)
async def test_goaway_waits_for_the_last_stream(context: Path, tmp_path: Path, way: str) -> None:
    """Also where the build's answer has ended before its export: the two connections have no order between them."""
    peers: list[SessionPeer] = []

    async def script(engine: FakeEngine) -> None:
        peers.append(peer := await engine.session())
        answer = await engine.build()
        stream = await peer.start(FILE_SEND)
        await peer.send_listing(stream, entry(b"a"))
        await peer.until(lambda: peer.requested(stream) == [0])
        await answer.end()
        await assert_unanswered(peer, stream)
        assert not peer.goaways
        await peer.send_content(stream, 0, b"")
        await peer.until(lambda: peer.has_fin(stream))
        await peer.send_fin(stream)
        await peer.answer(stream)

    async with nothing_left(tmp_path), fake_engine(script, way=way) as engine, bk.connect(engine.address) as client:
        await client.build(context, outputs=[bk.output.local(tmp_path / "dest")])
        [peer] = peers
        await peer.until_closed()
    ends = [
        type(event)
        for event in peer.events
        if isinstance(event, h2.events.StreamEnded | h2.events.ConnectionTerminated)
    ]
    assert ends == [h2.events.StreamEnded, h2.events.ConnectionTerminated]
    assert [goaway.error_code for goaway in peer.goaways] == [0]
