"""The sending side against daemons that keep to the protocol, and against those that do not."""

from __future__ import annotations

import os
import random
import socket
from typing import TYPE_CHECKING

import anyio
import pytest
from tricky_cases import tricky
from wires import Daemon, joined, open_descriptors, send, together

from buildkit_session.errors import InputError, RemoteProtocolError, StreamReset, TransferError
from buildkit_session.fsutil.packets import DATA, ERR, FIN, REQ, STAT, PeerGaveUp
from buildkit_session.fsutil.sender import CHUNK, send_tree
from buildkit_session.fsutil.walk import Filter
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A share with a directory, a link, two names of one file, an empty file; its paths in order are ``PATHS``."""
    path = tmp_path / "root"
    (path / "d").mkdir(parents=True)
    (path / "d/f").write_bytes(b"hello")
    (path / "empty").write_bytes(b"")
    (path / "first").write_bytes(b"twice")
    (path / "link").symlink_to("/etc/passwd")
    os.link(path / "first", path / "second")
    (tmp_path / "outside").write_bytes(b"outside")
    return path


PATHS = [b"d", b"d/f", b"empty", b"first", b"link", b"second"]


@pytest.fixture(autouse=True)
def _leaves_no_descriptor() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def failure(root: Path, script: Callable[[Daemon], Awaitable[None]], filtered: Filter | None = None) -> Exception:
    """What the transfer ends with; the script sees all that was sent."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - looked at by the caller
        send(root, script, filtered)
    return caught.value


async def listing(daemon: Daemon) -> list[Stat]:
    entries = []
    while (packet := await daemon.next()).stat is not None:
        entries.append(packet.stat)
    assert packet.type == STAT
    return entries


async def content(daemon: Daemon, number: int) -> bytes:
    """The data of the one file that was requested."""
    pieces = []
    while (packet := await daemon.next()).data:
        assert (packet.type, packet.id) == (DATA, number)
        pieces.append(packet.data)
    assert (packet.type, packet.id) == (DATA, number)
    return b"".join(pieces)


async def told(daemon: Daemon) -> str:
    """The text of the error packet that must come."""
    return (await daemon.until(ERR))[-1].data.decode()


@tricky(11, 13, 25, 27)
def test_a_transfer(root: Path) -> None:
    """The listing, one end of it, content as requested, FIN answered with FIN and nothing after it."""

    async def script(daemon: Daemon) -> None:
        assert [entry.path for entry in await listing(daemon)] == PATHS
        for number, expected in ((3, b"twice"), (1, b"hello"), (2, b"")):
            await daemon.req(number)
            assert await content(daemon, number) == expected
        await daemon.fin()

    sent = send(root, script)
    assert sum(packet.type == STAT and packet.stat is None for packet in sent) == 1
    assert sent[-1].type == FIN
    assert sum(packet.type == FIN for packet in sent) == 1


def test_an_empty_tree(tmp_path: Path) -> None:
    async def script(daemon: Daemon) -> None:
        assert await listing(daemon) == []
        await daemon.fin()

    assert [packet.type for packet in send(tmp_path, script)] == [STAT, FIN]


def test_content_comes_in_chunks(root: Path) -> None:
    """No packet is above the limit of old daemons, none but the last is empty."""
    body = os.urandom(5 * CHUNK + 1)
    (root / "d/f").write_bytes(body)

    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        await daemon.req(1)
        assert await content(daemon, 1) == body
        await daemon.fin()

    sizes = [len(packet.data) for packet in send(root, script) if packet.type == DATA]
    assert max(sizes) <= CHUNK
    assert [size for size in sizes if not size] == [0]


@tricky(24)
def test_requests_by_thousands_in_any_order(tmp_path: Path) -> None:
    """All at once, before the listing has ended: each is answered once."""
    count = 5000
    for number in range(count):
        (tmp_path / f"{number:05d}").write_bytes(b"%d" % number)
    got: dict[int, bytes] = {}
    descriptors: list[int] = []

    async def script(daemon: Daemon) -> None:
        first = await daemon.next()
        assert first.stat is not None
        order = list(range(count))
        random.Random(1).shuffle(order)  # noqa: S311 - the same disorder every time
        asked = 0
        listed, ended = 1, False
        while len(got) < count or not ended:
            while asked < count and order[asked] < listed:
                await daemon.req(order[asked])
                asked += 1
            packet = await daemon.next()
            if packet.type == STAT:
                listed += packet.stat is not None
                ended = packet.stat is None
            elif packet.data:
                got[packet.id] = packet.data
                descriptors.append(len(open_descriptors()) if packet.id % 500 == 0 else 0)
        await daemon.fin()

    before = len(open_descriptors())
    send(tmp_path, script)
    assert got == {number: b"%d" % number for number in range(count)}
    assert max(descriptors) < before + 20


@tricky(13, 18)
@pytest.mark.parametrize("number", [0, 4, 5, 6, 2**32 - 1], ids=["directory", "link", "hard link", "beyond", "maximum"])
def test_what_has_no_content_cannot_be_requested(root: Path, number: int) -> None:
    """DS-02: the daemon is told."""

    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        await daemon.req(number)
        assert await told(daemon) == f"entry {number} was requested, which has no (more) content"

    assert isinstance(failure(root, script), RemoteProtocolError)


@pytest.mark.parametrize("read", [True, False])
def test_a_file_is_sent_once(root: Path, read: bool) -> None:
    """DS-02: also while the first request waits."""

    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        await daemon.req(1)
        if read:
            await content(daemon, 1)
        await daemon.req(1)
        await told(daemon)

    assert isinstance(failure(root, script), RemoteProtocolError)


def test_what_was_filtered_out_cannot_be_requested(root: Path) -> None:
    """FP-05: numbers count what was listed."""

    async def script(daemon: Daemon) -> None:
        assert [entry.path for entry in await listing(daemon)] == [b"empty"]
        await daemon.req(1)
        await told(daemon)

    assert isinstance(failure(root, script, Filter(include=("empty",))), RemoteProtocolError)


def test_fin_at_any_time(tmp_path: Path) -> None:
    """DS-04: in the middle of the listing and of the data; nothing but FIN follows."""
    for number in range(2000):
        (tmp_path / f"{number:04d}").write_bytes(b"x" * 2_000_000 if number == 0 else b"")

    async def script(daemon: Daemon) -> None:
        daemon.end.peer.room = anyio.Event()  # the client can send one packet
        assert (await daemon.next()).stat is not None
        await daemon.req(0)
        await anyio.wait_all_tasks_blocked()  # the file is open
        await daemon.fin()
        await anyio.wait_all_tasks_blocked()
        daemon.end.peer.room.set()
        await daemon.until(FIN)

    sent = send(tmp_path, script)
    assert len(sent) < 2000
    assert sent[-1].type == FIN


def test_the_daemon_gives_up(root: Path) -> None:
    """DS-05: its text surfaces, escaped; it is not answered with another error."""

    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        await daemon.err(b"no \x1b[2J")

    error = failure(root, script)
    assert isinstance(error, PeerGaveUp)
    assert "no \\x1b[2J" in str(error)


@pytest.mark.parametrize(
    "packet", [Packet(type=STAT), Packet(type=DATA, id=1, data=b"x"), Packet(type=PacketPacketType(9))]
)
def test_packets_out_of_role_are_refused(root: Path, packet: Packet) -> None:
    """DS-06."""

    async def script(daemon: Daemon) -> None:
        await daemon.end.send(packet)
        await told(daemon)

    assert isinstance(failure(root, script), RemoteProtocolError)


@pytest.mark.parametrize("requests", [0, 1])
def test_an_end_without_fin_is_a_failure(root: Path, requests: int) -> None:
    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        await daemon.req(*range(1, 1 + requests))
        daemon.end.end()

    assert isinstance(failure(root, script), TransferError)


@tricky(41)
def test_a_reset_is_what_it_is(root: Path) -> None:
    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        daemon.end.reset()

    assert isinstance(failure(root, script), StreamReset)


def becomes_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../outside")


def becomes_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def becomes_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def loses_its_parent(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to(path.parent.with_name("moved"))


CHANGES: dict[str, Callable[[Path], None]] = {
    "vanishes": lambda path: path.unlink(),
    "becomes a link": becomes_link,
    "becomes a FIFO": becomes_fifo,
    "becomes a directory": becomes_directory,
    "its directory becomes a link": loses_its_parent,
}


@tricky(20)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_there_any_more_is_an_error(root: Path, change: str) -> None:
    """DS-07, DS-08, DS-09: never an empty file, never a byte from outside; named by its relative path to both."""

    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        CHANGES[change](root / "d/f")
        await daemon.req(1)
        packets = await daemon.until(ERR)
        assert [packet.type for packet in packets] == [ERR]
        text = packets[0].data.decode()
        assert "d/f" in text
        assert str(root) not in text

    error = failure(root, script)
    assert isinstance(error, TransferError)
    assert error.path == b"d/f"


@tricky(20)
@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_file_is_an_error(root: Path) -> None:
    """DS-09."""
    (root / "d/f").chmod(0)

    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        await daemon.req(1)
        assert "d/f" in await told(daemon)

    assert isinstance(failure(root, script), TransferError)


@pytest.mark.parametrize("size", [0, 1, 10_000_000])
def test_a_file_of_another_size_ends_cleanly(root: Path, size: int) -> None:
    """DS-08: what is read when it is asked for is what is sent."""

    async def script(daemon: Daemon) -> None:
        assert (await listing(daemon))[1].size == 5
        os.truncate(root / "d/f", size)
        await daemon.req(1)
        assert len(await content(daemon, 1)) == size
        await daemon.fin()

    send(root, script)


def test_a_file_that_shrinks_while_it_is_sent(root: Path) -> None:
    """DS-08: a short file ends with its last byte."""
    (root / "d/f").write_bytes(bytes(20_000_000))

    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        daemon.end.peer.room = anyio.Event()
        await daemon.req(1)
        await daemon.next()
        os.truncate(root / "d/f", 100)
        daemon.end.peer.room.set()
        assert len(await content(daemon, 1)) < 20_000_000
        await daemon.fin()

    send(root, script)


@tricky(19)
def test_a_socket_is_an_empty_file(tmp_path: Path) -> None:
    """As upstream lists it; a request is answered with the end of the data."""
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(tmp_path)
        try:
            listener.bind("s")
        finally:
            os.chdir(before)

    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        await daemon.req(0)
        assert await content(daemon, 0) == b""
        await daemon.fin()

    send(tmp_path, script)


def test_a_malformed_pattern_is_told(root: Path) -> None:
    """FP-09."""

    async def script(daemon: Daemon) -> None:
        assert "[" in await told(daemon)

    assert isinstance(failure(root, script, Filter(exclude=("a[",))), InputError)


def test_cancelled_at_every_use_of_the_channel(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each batch taken or sent; the last round is not cancelled and succeeds."""
    monkeypatch.setattr("buildkit_session.fsutil.sender.CHUNK", 1000)
    monkeypatch.setattr("buildkit_session.fsutil.sender.READ_BATCH", 1000)
    (root / "d/f").write_bytes(bytes(20 * 1000))

    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        await daemon.req(1, 2, 3)
        ends = 0
        while ends < 3:
            ends += not (await daemon.next()).data
        await daemon.fin()

    async def main(uses: int) -> bool:
        ours, theirs = joined()
        left = uses
        with anyio.CancelScope() as scope:

            def count() -> None:
                nonlocal left
                left -= 1
                if not left:
                    scope.cancel()

            ours.on_use = count
            root_fd = os.open(root, os.O_RDONLY)
            try:
                await together(ours, send_tree(ours, root_fd, Filter()), script(Daemon(theirs)))
            finally:
                os.close(root_fd)
        return scope.cancel_called

    descriptors = open_descriptors()
    for uses in range(1, 1000):
        cancelled = anyio.run(main, uses)
        assert open_descriptors() == descriptors
        if not cancelled:
            assert uses > 20
            return
    pytest.fail("the transfer never came to its end")


def test_a_peer_that_stops_reading_cannot_keep_an_error_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last word has a deadline."""
    monkeypatch.setattr("buildkit_session.fsutil.packets.ERROR_PATIENCE", 0)

    async def script(daemon: Daemon) -> None:
        await listing(daemon)
        daemon.end.peer.room = anyio.Event()
        await daemon.end.send(Packet(type=REQ, id=99))

    assert isinstance(failure(root, script), RemoteProtocolError)
