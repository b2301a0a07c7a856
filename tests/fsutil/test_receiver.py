"""The receiving side against daemons that keep to the protocol, and against those that do not."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from typing import TYPE_CHECKING

import anyio
import pytest
from tricky_cases import tricky
from wires import (
    ANY_TIME,
    Daemon,
    Entry,
    directory,
    export,
    fifo,
    file,
    hard_link,
    joined,
    open_descriptors,
    receive,
    receive_entries,
    symlink,
    temporary_names,
    together,
    tree,
)

from buildkit_session.errors import RemoteProtocolError, StreamReset, TransferError
from buildkit_session.fsutil.disk import MAX_OPEN_FILES
from buildkit_session.fsutil.modes import GoMode
from buildkit_session.fsutil.options import DEFAULT, ReceiveOptions
from buildkit_session.fsutil.packets import DATA, ERR, FIN, REQ, PeerGaveUp
from buildkit_session.fsutil.policy import Policy
from buildkit_session.fsutil.receiver import OUTSTANDING, receive_tree
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
needs_no_root = pytest.mark.skipif(os.geteuid() == 0, reason="root is not bound by permissions")


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    path = tmp_path / "dest"
    path.mkdir()
    return path


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the destination that must stay as it is."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "precious").write_bytes(b"precious")
    (path / "precious").chmod(0o600)
    before = tree(path)
    yield path
    assert tree(path) == before


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path: Path) -> Iterator[None]:
    """After every test: descriptors are back, no temporary file remains."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before
    assert temporary_names(tmp_path) == []


# -- what is written ------------------------------------------------------------------------------------------------


def test_every_kind_of_entry(dest: Path) -> None:
    """Contents, modes and times arrive exactly; the counts say what was written."""
    received = receive_entries(
        dest,
        directory(b"d", 0o777 | GoMode.STICKY),
        file(b"d/f", b"hello", 0o751),
        hard_link(b"d/g", b"d/f"),
        symlink(b"d/link", b"/nowhere/at/all"),
        file(b"empty", b""),
        fifo(b"pipe"),
    )
    assert received.error is None
    got = tree(dest)
    assert got[b"d"] == (oct(stat.S_IFDIR | 0o1777), ANY_TIME, b"d", b"")
    assert got[b"d/f"] == (oct(stat.S_IFREG | 0o751), ANY_TIME, b"d/f", b"hello")
    assert got[b"d/g"] == (oct(stat.S_IFREG | 0o751), ANY_TIME, b"d/f", b"hello")
    assert got[b"d/link"] == (oct(stat.S_IFLNK | 0o777), ANY_TIME, b"d/link", b"/nowhere/at/all")
    assert got[b"empty"] == (oct(stat.S_IFREG | 0o644), ANY_TIME, b"empty", b"")
    assert got[b"pipe"] == (oct(stat.S_IFIFO | 0o640), ANY_TIME, b"pipe", b"")
    assert received.written is not None
    written = received.written
    assert (written.files, written.directories, written.links, written.content) == (4, 1, 1, 5)


def test_an_empty_listing(dest: Path) -> None:
    """Nothing is asked for, FIN follows at once."""
    received = receive_entries(dest)
    assert received.error is None
    assert [packet.type for packet in received.sent] == [FIN]
    assert tree(dest) == {}


@tricky(24)
def test_files_arrive_interleaved_and_before_the_listing_ends(dest: Path) -> None:
    """DATA of several files and STATs mix freely."""

    async def script(daemon: Daemon) -> None:
        await daemon.stat(Stat(path=b"a", mode=0o644, size=4), Stat(path=b"b", mode=0o644, size=4))
        assert [(await daemon.next()).id, (await daemon.next()).id] == [0, 1]
        await daemon.piece(1, b"bb")
        await daemon.piece(0, b"aa")
        await daemon.stat(Stat(path=b"c", mode=0o644, size=1))
        assert (await daemon.next()).id == 2
        await daemon.data(1, b"BB")
        await daemon.data(2, b"c")
        await daemon.end_of_list()
        await daemon.data(0, b"AA")
        await daemon.until(FIN)
        await daemon.fin()

    assert receive(dest, script).error is None
    assert {path.name: path.read_bytes() for path in dest.iterdir()} == {"a": b"aaAA", "b": b"bbBB", "c": b"c"}


@tricky(16)
@pytest.mark.parametrize("mtime", [0, -1, -(2**31) * 10**9, 2**32 * 10**9 + 7])
def test_times_keep_their_nanoseconds(dest: Path, mtime: int) -> None:
    """Also before 1970 and after 2038."""
    assert receive_entries(dest, file(b"f", mtime=mtime), symlink(b"l", b"f", mtime=mtime)).error is None
    assert (dest / "f").stat().st_mtime_ns == mtime
    assert (dest / "l").lstat().st_mtime_ns == mtime


@pytest.mark.parametrize("mtime", [2**63 - 1, -(2**63)])
def test_any_time_is_accepted(dest: Path, mtime: int) -> None:
    """DR-17: what the file system cannot hold it clamps."""
    entries = directory(b"d", mtime=mtime), file(b"f", mtime=mtime), symlink(b"l", b"f", mtime=mtime)
    assert receive_entries(dest, *entries).error is None


@tricky(36)
@pytest.mark.parametrize("name", [b"\xff\xfe\x80", b"caf\xc3\xa9", b"a\nb\x1b[2J", b"\\", b"  ", b"-rf", b"x" * 255])
def test_names_are_bytes(dest: Path, name: bytes) -> None:
    """DR-03."""
    assert receive_entries(dest, file(name)).error is None
    assert os.listdir(os.fsencode(dest)) == [name]


@pytest.mark.parametrize("mask", [0, 0o077, 0o177, 0o777])
def test_modes_do_not_depend_on_the_umask(dest: Path, mask: int) -> None:
    """DR-26."""
    if mask & 0o700 and os.geteuid() != 0:
        pytest.skip("a directory its owner cannot enter")
    before = os.umask(mask)
    try:
        received = receive_entries(dest, directory(b"d", 0o755), file(b"d/f", mode=0o666), fifo(b"p", 0o666))
    finally:
        os.umask(before)
    assert received.error is None
    assert [stat.S_IMODE((dest / name).stat().st_mode) for name in ("d", "d/f", "p")] == [0o755, 0o666, 0o666]


@tricky(35)
def test_what_cannot_be_written_to_has_content(dest: Path) -> None:
    """DR-33: read-only files, and read-only directories with entries."""
    entries = directory(b"d", 0o555), file(b"d/f", b"x", 0o444), hard_link(b"d/g", b"d/f"), file(b"z", b"y", 0)
    assert receive_entries(dest, *entries).error is None
    # Once more, over what is there now.
    assert receive_entries(dest, *entries).error is None
    assert (dest / "d/g").stat().st_nlink == 2
    assert [stat.S_IMODE((dest / name).stat().st_mode) for name in ("d", "d/f", "z")] == [0o555, 0o444, 0]


def test_special_bits_of_files_are_dropped(dest: Path) -> None:
    """DR-13: the listing must not make programs that run as the caller, who may be root. They are counted."""
    received = receive_entries(dest, file(b"f", mode=0o755 | GoMode.SETUID | GoMode.SETGID | GoMode.STICKY))
    assert stat.S_IMODE((dest / "f").stat().st_mode) == 0o755
    assert received.written is not None
    assert received.written.dropped_bits == 1


@pytest.mark.parametrize("kind", [GoMode.DEVICE, GoMode.DEVICE | GoMode.CHAR_DEVICE, GoMode.SOCKET])
def test_devices_are_refused(dest: Path, kind: int) -> None:
    """DR-14."""
    received = receive_entries(dest, Entry(Stat(path=b"zero", mode=kind | 0o666, devmajor=1, devminor=5)))
    assert isinstance(received.error, TransferError)
    assert received.error.path == b"zero"
    assert os.listdir(dest) == []


@pytest.mark.parametrize("kind", [GoMode.IRREGULAR, GoMode.DIR | GoMode.SYMLINK, GoMode.CHAR_DEVICE])
def test_a_mode_that_names_no_kind_is_refused(dest: Path, kind: int) -> None:
    received = receive_entries(dest, Entry(Stat(path=b"x", mode=kind)))
    assert isinstance(received.error, RemoteProtocolError)


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../../../..", b".", b"a//b/", b"\xff", b"x" * 4095, b"-> \n"])
def test_links_are_made_verbatim(dest: Path, target: bytes) -> None:
    """DR-12."""
    assert receive_entries(dest, symlink(b"l", target)).error is None
    assert os.readlink(os.fsencode(dest / "l")) == target


@pytest.mark.parametrize("target", [b"", b"a\0b", b"x" * 5000])
def test_a_link_without_a_usable_target_is_refused(dest: Path, target: bytes) -> None:
    assert isinstance(receive_entries(dest, symlink(b"l", target)).error, TransferError)


# -- what is there already ------------------------------------------------------------------------------------------


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(path.parent)  # the address is limited to some 100 bytes
        try:
            listener.bind(path.name)
        finally:
            os.chdir(before)


def fill(path: Path, outside: Path) -> None:
    (path / "sub/deep").mkdir(parents=True)
    (path / "sub/file").write_bytes(b"old")
    (path / "sub/deep/way out").symlink_to(outside)
    (path / "way out").symlink_to(outside)
    (path / "sub/deep").chmod(0o500)


def write_old(path: Path, outside: Path) -> None:
    path.write_bytes(b"old")


TRAPS: dict[str, Callable[[Path, Path], None]] = {
    "file": write_old,
    "link at a file": lambda path, outside: path.symlink_to(outside / "precious"),
    "link at a directory": lambda path, outside: path.symlink_to(outside),
    "dangling link": lambda path, outside: path.symlink_to(outside / "new"),
    "link at itself": lambda path, _: path.symlink_to(path),
    "hard link": lambda path, outside: os.link(outside / "precious", path),
    "FIFO": lambda path, _: os.mkfifo(path),
    "socket": lambda path, _: make_socket(path),
    "empty directory": lambda path, _: path.mkdir(),
    "full directory": fill,
}


@tricky(33)
@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (file(b"x", b"new"), stat.S_IFREG),
        (file(b"x", b""), stat.S_IFREG),
        (symlink(b"x", b"target"), stat.S_IFLNK),
        (directory(b"x"), stat.S_IFDIR),
        (fifo(b"x"), stat.S_IFIFO),
        (hard_link(b"x", b"first"), stat.S_IFREG),
    ],
    ids=["file", "empty", "link", "directory", "fifo", "hard link"],
)
def test_whatever_stands_in_the_way_is_replaced(dest: Path, outside: Path, trap: str, entry: Entry, kind: int) -> None:
    """DR-07 to DR-10, DR-32: nothing outside is touched, nothing hangs."""
    TRAPS[trap](dest / "x", outside)
    received = receive_entries(dest, file(b"first", b"content"), entry)
    assert received.error is None
    status = (dest / "x").lstat()
    assert stat.S_IFMT(status.st_mode) == kind
    assert status.st_mtime_ns == ANY_TIME
    if entry.content is not None:
        assert (dest / "x").read_bytes() == entry.content


@needs_root
def test_a_device_in_the_way_is_replaced(dest: Path) -> None:
    """DR-10: it is not opened."""
    os.mknod(dest / "x", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert receive_entries(dest, file(b"x", b"new")).error is None
    assert (dest / "x").read_bytes() == b"new"


@tricky(33)
def test_a_link_in_place_of_a_parent_is_replaced_not_followed(dest: Path, outside: Path) -> None:
    """DR-07."""
    (dest / "d").symlink_to(outside)
    assert receive_entries(dest, directory(b"d"), file(b"d/precious", b"new")).error is None
    assert not (dest / "d").is_symlink()
    assert (dest / "d/precious").read_bytes() == b"new"


def test_a_directory_that_turns_into_a_link_meanwhile_is_not_followed(dest: Path, outside: Path) -> None:
    """DR-31: another stream can replace what this one has listed, once its descriptor is not held any more."""

    async def script(daemon: Daemon) -> None:
        await daemon.stat(directory(b"d").stat)
        # More directories than stay open.
        await daemon.stat(*(directory(b"e%03d" % number).stat for number in range(100)))
        await daemon.stat(file(b"f", b"").stat)
        await daemon.next()
        (dest / "d").rmdir()
        (dest / "d").symlink_to(outside)
        await daemon.data(101)
        await daemon.end_of_list()

    received = receive(dest, script)
    assert isinstance(received.error, TransferError)
    assert received.error.path == b"d"


def test_a_new_file_is_not_written_through_another_name(dest: Path, outside: Path) -> None:
    """DR-09: the old file keeps its content under its other name."""
    os.link(outside / "precious", dest / "x")
    assert receive_entries(dest, file(b"x", b"new")).error is None
    assert (outside / "precious").read_bytes() == b"precious"


def test_a_hard_link_that_is_there_already(dest: Path) -> None:
    """Renaming one name of a file to another does nothing; the name made aside must go all the same."""
    entries = file(b"a"), hard_link(b"b", b"a"), hard_link(b"c", b"a")
    assert receive_entries(dest, *entries).error is None
    (dest / "b").unlink()
    os.link(dest / "a", dest / "b")
    assert receive_entries(dest, *entries).error is None
    assert (dest / "a").stat().st_nlink == 3
    assert sorted(os.listdir(dest)) == ["a", "b", "c"]


def test_existing_directories_are_merged(dest: Path) -> None:
    """What is not listed stays; a listed directory gets its mode and time."""
    (dest / "d").mkdir(mode=0o700)
    (dest / "d/kept").write_bytes(b"kept")
    (dest / "other").write_bytes(b"kept")
    assert receive_entries(dest, directory(b"d", 0o711), file(b"d/new")).error is None
    assert sorted(os.listdir(dest / "d")) == ["kept", "new"]
    assert (dest / "other").exists()
    status = (dest / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o711, ANY_TIME)


def test_the_destination_keeps_its_own_mode(dest: Path) -> None:
    dest.chmod(0o750)
    assert receive_entries(dest, file(b"f")).error is None
    assert stat.S_IMODE(dest.stat().st_mode) == 0o750


def test_the_deepest_tree(dest: Path) -> None:
    """As deep as paths can be: no recursion, few descriptors; then a file replaces all of it."""
    paths = [b"/".join([b"d"] * depth) for depth in range(1, 2048)]
    assert receive_entries(dest, *map(directory, paths), file(paths[-1] + b"/f")).error is None
    assert receive_entries(dest, file(b"d", b"instead")).error is None
    assert (dest / "d").read_bytes() == b"instead"


# -- daemons that break the rules -----------------------------------------------------------------------------------


@tricky(34)
@pytest.mark.parametrize("path", [b"..", b"../x", b"/x", b"a/../x", b"", b".", b"a//b", b"a\0b", b"a" * 256, b"b/c"])
def test_a_refused_path_reaches_no_disk(dest: Path, path: bytes) -> None:
    """DR-01, DR-02, DR-04, DR-05: the error is typed and told to the daemon."""
    received = receive_entries(dest, directory(b"a"), file(path))
    assert isinstance(received.error, RemoteProtocolError)
    assert received.told() == str(received.error)
    assert os.listdir(dest) == ["a"]


def test_a_child_under_a_link_just_sent_is_refused(dest: Path, outside: Path) -> None:
    """DR-06."""
    received = receive_entries(dest, symlink(b"l", os.fsencode(outside)), file(b"l/precious"))
    assert isinstance(received.error, RemoteProtocolError)


@pytest.mark.parametrize("source", [b"../outside/precious", b"b", b"l", b"d", b"/etc/passwd"])
def test_a_hard_link_to_anything_else_is_refused(dest: Path, outside: Path, source: bytes) -> None:
    """DR-11."""
    received = receive_entries(dest, file(b"a"), directory(b"d"), symlink(b"l", b"a"), hard_link(b"x", source))
    assert isinstance(received.error, RemoteProtocolError)
    assert not (dest / "x").exists()


@pytest.mark.parametrize("size", [-1, 6, 8, 2**63 - 1, -(2**63)])
def test_the_listed_size_is_kept_to(dest: Path, size: int) -> None:
    """DR-18: and nothing is allocated in advance."""
    received = receive_entries(dest, Entry(Stat(path=b"f", mode=0o644, size=size), b"content"))
    assert isinstance(received.error, TransferError)
    assert os.listdir(dest) == []


def test_a_file_that_does_not_end_is_cut_short(dest: Path) -> None:
    """DR-18: the error does not wait for the end of the data."""

    async def script(daemon: Daemon) -> None:
        await daemon.stat(Stat(path=b"f", mode=0o644, size=10))
        await daemon.next()
        for _ in range(100):
            await daemon.piece(0, b"123456")

    assert isinstance(receive(dest, script).error, TransferError)


async def _stray_unknown(daemon: Daemon) -> None:
    await daemon.piece(7, b"x")


async def _stray_unrequested(daemon: Daemon) -> None:
    await daemon.stat(directory(b"d").stat)
    await daemon.piece(0, b"x")


async def _stray_early(daemon: Daemon) -> None:
    await daemon.stat(*(file(b"f%03d" % number).stat for number in range(200)))
    await daemon.piece(199, b"x")


async def _stray_finished(daemon: Daemon) -> None:
    await daemon.stat(file(b"f", b"x").stat)
    await daemon.next()
    await daemon.data(0, b"x")
    await daemon.data(0)


async def _second_end(daemon: Daemon) -> None:
    await daemon.stat(file(b"f").stat)
    await daemon.end_of_list()
    await daemon.end_of_list()


async def _late_stat(daemon: Daemon) -> None:
    await daemon.stat(file(b"f").stat)
    await daemon.end_of_list()
    await daemon.stat(file(b"g").stat)


async def _early_fin(daemon: Daemon) -> None:
    await daemon.stat(file(b"f").stat)
    await daemon.fin()


async def _req(daemon: Daemon) -> None:
    await daemon.req(0)


async def _unknown_type(daemon: Daemon) -> None:
    await daemon.end.send(Packet(type=PacketPacketType(9)))


@tricky(11, 34)
@pytest.mark.parametrize(
    "script",
    [
        _stray_unknown,
        _stray_unrequested,
        _stray_early,
        _stray_finished,
        _second_end,
        _late_stat,
        _early_fin,
        _req,
        _unknown_type,
    ],
)
def test_packets_out_of_turn_are_refused(dest: Path, script: Callable[[Daemon], Awaitable[None]]) -> None:
    """DR-19, DR-22, and the second end of the listing."""
    received = receive(dest, script)
    assert isinstance(received.error, RemoteProtocolError)
    assert received.told() == str(received.error)


LISTING = [
    directory(b"d"),
    file(b"d/a", b"one"),
    file(b"d/b", b""),
    hard_link(b"d/c", b"d/a"),
    symlink(b"l", b"d"),
    fifo(b"p"),
    file(b"z", b"two"),
]


class _Stopped(Exception):
    pass


def stopping_after(count: int) -> Callable[[Daemon], Awaitable[None]]:
    """A daemon that stops after so many packets of an export: it half-closes for even counts, resets for odd ones."""

    async def script(daemon: Daemon) -> None:
        def step() -> None:
            if len(daemon.end.sent) >= count:
                raise _Stopped

        daemon.end.on_use = step
        try:
            await export(daemon, LISTING)
        except _Stopped:
            daemon.end.on_use = lambda: None
            if count % 2:
                daemon.end.reset()
            else:
                daemon.end.end()

    return script


@tricky(28)
@pytest.mark.parametrize("count", range(14))
def test_an_end_without_fin_is_a_failure(dest: Path, count: int) -> None:
    """DR-20: wherever the transfer stops, and if all content is there."""
    received = receive(dest, stopping_after(count))
    assert isinstance(received.error, TransferError | StreamReset)
    assert received.written is None


def test_those_are_all_the_places_to_stop(dest: Path) -> None:
    """The export of the test above has as many packets."""
    assert receive(dest, stopping_after(14)).error is None


@pytest.mark.parametrize("when", ["at once", "after our FIN"])
def test_the_daemon_gives_up(dest: Path, when: str) -> None:
    """DR-21: its text is bounded and escaped; it is not answered with another error."""

    async def script(daemon: Daemon) -> None:
        if when == "after our FIN":
            await daemon.end_of_list()
            await daemon.until(FIN)
        await daemon.err(b"no\x1b[2Jspace" + b"!" * 1_000_000)

    received = receive(dest, script)
    assert isinstance(received.error, PeerGaveUp)
    assert "no\\x1b[2Jspace" in str(received.error)
    assert len(str(received.error)) < 5000
    assert ERR not in {packet.type for packet in received.sent}


@tricky(39)
def test_after_fin_late_data_is_ignored(dest: Path) -> None:
    """The daemon's workers may still have been sending."""

    async def script(daemon: Daemon) -> None:
        await daemon.end_of_list()
        await daemon.until(FIN)
        await daemon.piece(5, b"late")
        await daemon.fin()

    assert receive(dest, script).error is None


def test_the_first_cause_is_raised_when_the_daemon_is_gone(dest: Path) -> None:
    """It is told of the error, but a reset is not the reason."""

    async def script(daemon: Daemon) -> None:
        daemon.end.peer.on_use = lambda: daemon.end.reset() if daemon.end.sent else None
        await daemon.stat(file(b"..").stat)

    assert isinstance(receive(dest, script).error, RemoteProtocolError)


# -- load -----------------------------------------------------------------------------------------------------------


@tricky(37)
def test_requests_and_open_files_are_bounded(dest: Path) -> None:
    """DR-24: thousands of pending files, few of them asked for and open."""
    count = 5000

    async def script(daemon: Daemon) -> None:
        before = len(open_descriptors())
        await daemon.stat(*(Stat(path=b"f%05d" % number, mode=0o644, size=4) for number in range(count)))
        await daemon.end_of_list()
        for first in range(0, count, OUTSTANDING):
            asked = [(await daemon.next()).id for _ in range(min(OUTSTANDING, count - first))]
            for number in asked[:MAX_OPEN_FILES]:
                await daemon.piece(number, b"ab")
            if first in (0, OUTSTANDING * 40):  # it takes its time
                await anyio.wait_all_tasks_blocked()
                assert len(open_descriptors()) - before <= MAX_OPEN_FILES
            assert len(daemon.end.peer.sent) == first + len(asked)
            for number in asked[:MAX_OPEN_FILES]:
                await daemon.data(number, b"cd")
            for number in asked[MAX_OPEN_FILES:]:
                await daemon.data(number, b"abcd")
        assert (await daemon.next()).type == FIN
        await daemon.fin()

    received = receive(dest, script)
    assert received.error is None
    assert len(os.listdir(dest)) == count


def test_more_open_files_than_any_daemon_has_are_refused(dest: Path) -> None:
    async def script(daemon: Daemon) -> None:
        await daemon.stat(*(Stat(path=b"f%05d" % number, mode=0o644, size=4) for number in range(OUTSTANDING)))
        await daemon.end_of_list()
        for _ in range(MAX_OPEN_FILES + 1):
            await daemon.piece((await daemon.next()).id, b"ab")
        await anyio.wait_all_tasks_blocked()

    received = receive(dest, script)
    assert isinstance(received.error, TransferError)
    assert f"more than {MAX_OPEN_FILES} files at a time" in str(received.error)
    assert tree(dest) == {}


# -- faults ---------------------------------------------------------------------------------------------------------


class Disk:
    """The system calls of a transfer, one of which does something else."""

    CALLS = frozenset(
        {
            "open",
            "mkdir",
            "mkfifo",
            "chmod",
            "chown",
            "symlink",
            "link",
            "write",
            "writev",
            "fchmod",
            "utime",
            "rename",
            "close",
        }
    )

    def __init__(self, on_call: Callable[[int], None]) -> None:
        self.count = 0
        self.closed_twice = False
        self._on_call = on_call

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in self.CALLS:
            return real

        def call(*args: object, **options: object) -> object:
            self.count += 1
            try:
                result = real(*args, **options) if name == "close" else None
            except OSError:
                self.closed_twice = True  # by now the number may be another's
                raise
            self._on_call(self.count)
            return result if name == "close" else real(*args, **options)

        return call


def on_disk(monkeypatch: pytest.MonkeyPatch, on_call: Callable[[int], None]) -> Disk:
    disk = Disk(on_call)
    monkeypatch.setattr("buildkit_session.fsutil.disk.os", disk)
    monkeypatch.setattr("buildkit_session.fsutil.content.os", disk)
    monkeypatch.setattr("buildkit_session.fsutil.directories.os", disk)
    monkeypatch.setattr("buildkit_session.fsutil.metadata.os", disk)
    return disk


def _calls(dest: Path, monkeypatch: pytest.MonkeyPatch, options: ReceiveOptions = DEFAULT) -> int:
    with monkeypatch.context() as patch:
        disk = on_disk(patch, lambda _: None)
        assert receive_entries(dest, *LISTING, options=options).error is None
    return disk.count


def _empty(dest: Path) -> None:
    subprocess.run(["rm", "-rf", "--", *dest.iterdir()], check=True)
    (dest / "z").mkdir()
    (dest / "z/old").write_bytes(b"old")


@pytest.mark.parametrize("options", [DEFAULT, ReceiveOptions(policy=Policy(upstream=True))], ids=["safe", "upstream"])
def test_a_fault_of_the_disk_anywhere(dest: Path, monkeypatch: pytest.MonkeyPatch, options: ReceiveOptions) -> None:
    """DR-25: EIO at each system call in turn, also when closing; both sides are told, all is cleaned up."""
    _empty(dest)
    for failing in range(1, _calls(dest, monkeypatch, options) + 1):
        _empty(dest)

        def fail(call: int, failing: int = failing) -> None:
            if call == failing:
                raise OSError(5, "Input/output error")

        descriptors = open_descriptors()
        with monkeypatch.context() as patch:
            disk = on_disk(patch, fail)
            received = receive_entries(dest, *LISTING, options=options)
        assert not disk.closed_twice, failing
        assert temporary_names(dest) == [], failing
        assert open_descriptors() == descriptors, failing
        if received.error is not None:  # giving back directories at the end may fail without harm
            assert isinstance(received.error, TransferError), failing
            assert "Input/output error" in received.told()
            assert str(dest) not in received.told()


def test_cancelled_while_a_thread_works(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each system call in turn: the thread comes to its end, then everything is given back."""
    _empty(dest)
    for cancelling in range(1, _calls(dest, monkeypatch) + 1):
        _empty(dest)
        descriptors = open_descriptors()

        async def main(cancelling: int = cancelling) -> bool:
            with anyio.CancelScope() as scope, monkeypatch.context() as patch:

                def cancel(call: int) -> None:
                    if call == cancelling:
                        anyio.from_thread.run_sync(scope.cancel)

                on_disk(patch, cancel)
                ours, theirs = joined()
                root_fd = os.open(dest, os.O_RDONLY)
                try:
                    await together(ours, receive_tree(ours, root_fd), export(Daemon(theirs), LISTING))
                finally:
                    os.close(root_fd)
            return scope.cancelled_caught

        anyio.run(main)
        assert temporary_names(dest) == [], cancelling
        assert open_descriptors() == descriptors, cancelling


def test_cancelled_at_every_use_of_the_channel(dest: Path) -> None:
    """Before each packet taken or sent; the last round is not cancelled and succeeds."""
    for uses in range(1, 1000):
        descriptors = open_descriptors()

        async def main(uses: int = uses) -> bool:
            ours, theirs = joined()
            left = uses
            with anyio.CancelScope() as scope:

                def count() -> None:
                    nonlocal left
                    left -= 1
                    if not left:
                        scope.cancel()

                ours.on_use = count
                root_fd = os.open(dest, os.O_RDONLY)
                try:
                    await together(ours, receive_tree(ours, root_fd), export(Daemon(theirs), LISTING))
                finally:
                    os.close(root_fd)
            return scope.cancel_called

        cancelled = anyio.run(main)
        assert temporary_names(dest) == []
        assert open_descriptors() == descriptors
        if not cancelled:
            assert uses > 5
            return
    pytest.fail("the transfer never came to its end")


def test_no_more_descriptors(dest: Path) -> None:
    """DR-25: EMFILE at any place is an error like others, and nothing stays behind for want of descriptors."""
    import resource

    entries = [directory(b"d"), directory(b"d/e"), *(file(b"d/e/%02d" % number) for number in range(20))]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    outcomes = []

    async def main(allowed: int) -> None:
        await anyio.to_thread.run_sync(int)  # the loop and its thread need some too
        ours, theirs = joined()
        root_fd = os.open(dest, os.O_RDONLY)
        ceiling = os.dup(root_fd)
        os.close(ceiling)
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling + allowed, hard))
        try:
            await together(ours, receive_tree(ours, root_fd), export(Daemon(theirs), entries))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(root_fd)

    for allowed in range(40):
        try:
            anyio.run(main, allowed)
            outcomes.append(True)
        except TransferError as error:
            assert "Too many open files" in str(error)  # noqa: PT017 - some rounds succeed
            outcomes.append(False)
        assert temporary_names(dest) == []
    assert not outcomes[0]
    assert outcomes[-1]


@needs_root
def test_a_full_disk(tmp_path: Path, dest: Path) -> None:
    """DR-25: a real one. Both sides are told, what is complete stays, the rest of the space is given back."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", dest], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode()}")
    try:
        received = receive_entries(dest, file(b"a", b"small"), file(b"b", b"x" * 200_000))
        assert isinstance(received.error, TransferError)
        assert "No space left on device" in received.told()
        assert os.listdir(dest) == ["a"]
    finally:
        subprocess.run(["umount", dest], check=True)


def test_a_file_above_the_limit(dest: Path) -> None:
    """The other way a disk can be full, for those who are not root."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        received = receive_entries(dest, file(b"b", b"x" * (2 << 20)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(received.error, TransferError)
    assert received.error.path == b"b"
    assert os.listdir(dest) == []


@needs_no_root
def test_a_directory_without_permission(dest: Path) -> None:
    dest.chmod(0o555)
    try:
        received = receive_entries(dest, file(b"f"))
    finally:
        dest.chmod(0o755)
    assert isinstance(received.error, TransferError)
    assert received.told() == "cannot write f: Permission denied"


@tricky(13, 18, 25)
def test_nothing_outstanding_is_left_unasked(dest: Path) -> None:
    """Every plain file is asked for once, also an empty one; hard links and others never."""
    received = receive_entries(dest, *LISTING)
    assert sorted(packet.id for packet in received.sent if packet.type == REQ) == [1, 2, 6]
    assert DATA not in {packet.type for packet in received.sent}
