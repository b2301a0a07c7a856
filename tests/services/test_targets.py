"""Where exports go: files, streams and directories, and what is left of a broken transfer."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from calls import RESET, ScriptedCall
from tricky_cases import tricky

from buildkit_session.errors import RemoteProtocolError, RpcError, StreamReset, TransferError
from buildkit_session.fsutil.options import ReceiveOptions
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.exported import Exported
from buildkit_session.services.targets import DirectoryTarget, FileTarget, ListingTarget, StreamTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.services.placement import PlacementMode

Target = DirectoryTarget | FileTarget | ListingTarget | StreamTarget


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path: Path) -> Iterator[None]:
    """After every test: descriptors are back, no temporary file remains."""
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".tmp.")] == []


def receive(target: Target, *batches: list[Any] | Exception, metadata: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    async def main() -> None:
        with anyio.fail_after(60):
            await target.receive(_call(*batches, metadata=metadata))

    anyio.run(main)


def _call(*batches: list[Any] | Exception, stalled: bool = False, metadata: Any = ()) -> IncomingCall[Any, Any]:
    return cast("IncomingCall[Any, Any]", ScriptedCall(*batches, stalled=stalled, metadata=metadata))


def pieces(*data: bytes) -> list[BytesMessage]:
    return [BytesMessage.parse(bytes(BytesMessage(data=piece))) for piece in data]


# -- a file ---------------------------------------------------------------------------------------------------------


def test_a_file_is_written(tmp_path: Path) -> None:
    """Pieces of any size, also none, in order."""
    receive(FileTarget(tmp_path / "out.tar"), pieces(b"ab", b"", b"c"), pieces(b"d" * 100_000))
    assert (tmp_path / "out.tar").read_bytes() == b"abc" + b"d" * 100_000


@tricky(29)
@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("fault", [RESET, RpcError(13, "cut off")], ids=["reset", "cut off"])
def test_a_broken_stream_leaves_the_old_file_or_none(tmp_path: Path, old: bytes | None, fault: Exception) -> None:
    """FX-01."""
    path = tmp_path / "out.tar"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises((StreamReset, RpcError)):
        receive(FileTarget(path), pieces(b"half"), fault)
    assert (path.read_bytes() if path.exists() else None) == old


@pytest.mark.parametrize("batches", [0, 1])
def test_a_cancelled_transfer_leaves_the_old_file(tmp_path: Path, batches: int) -> None:
    """FX-01."""
    path = tmp_path / "out.tar"
    path.write_bytes(b"old")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(FileTarget(path).receive, _call(*[pieces(b"half")] * batches, stalled=True))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    anyio.run(main)
    assert os.listdir(tmp_path) == ["out.tar"]
    assert path.read_bytes() == b"old"


def test_the_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    """FX-02: by rename; who has the old one open keeps that."""
    path = tmp_path / "out.tar"
    path.write_bytes(b"old")
    with path.open("rb") as old:
        receive(FileTarget(path), pieces(b"new"))
        assert old.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    """What was private stays private; what is new goes by the umask."""
    path = tmp_path / "out.tar"
    path.touch(mode=0o600)
    receive(FileTarget(path), pieces(b"new"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = os.umask(0o027)
    try:
        receive(FileTarget(tmp_path / "new.tar"), pieces(b"new"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.tar").stat().st_mode) == 0o640


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path: Path, exists: bool) -> None:
    """The file it leads to is written."""
    (tmp_path / "real").mkdir()
    if exists:
        (tmp_path / "real/out.tar").write_bytes(b"old")
    (tmp_path / "link.tar").symlink_to("real/out.tar")
    receive(FileTarget(tmp_path / "link.tar"), pieces(b"new"))
    assert (tmp_path / "link.tar").is_symlink()
    assert (tmp_path / "real/out.tar").read_bytes() == b"new"


def test_the_null_device(tmp_path: Path) -> None:
    """It is written to, not replaced, also through a link."""
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (tmp_path / "null", tmp_path / "null"):
        receive(FileTarget(path), pieces(b"x"))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.fixture
def _out_of_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """``wait_all_tasks_blocked`` looks every 0.1 seconds: what wakes at the same times it hardly ever sees blocked."""
    monkeypatch.setattr("buildkit_session.services.targets.READER_POLL", 0.037)


@pytest.mark.usefixtures("_out_of_step")
def test_a_pipe_is_written_to_when_its_reader_comes(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(FileTarget(path).receive, _call(pieces(b"x" * 200_000)))
            await anyio.wait_all_tasks_blocked()
            reader.start()

    anyio.run(main)
    reader.join(60)
    assert got == [b"x" * 200_000]


@pytest.mark.usefixtures("_out_of_step")
def test_a_pipe_without_reader_can_be_cancelled(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(FileTarget(tmp_path / "pipe").receive, _call(pieces(b"x")))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    anyio.run(main)


def test_a_long_name(tmp_path: Path) -> None:
    """The name aside must not be too long for the file system where the real one is not."""
    path = tmp_path / ("\N{GRINNING FACE}" * 63)
    receive(FileTarget(path), pieces(b"x"))
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("where", ["directory", "file/below", "link at itself"])
def test_a_destination_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    """A typed error that names it; nothing is left behind."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link at itself").symlink_to(tmp_path / "link at itself")
    with pytest.raises(TransferError, match=where):
        receive(FileTarget(tmp_path / where), pieces(b"x"))
    assert (tmp_path / "file").read_bytes() == b"old"


@tricky(29)
def test_the_full_device() -> None:
    """FX-03: what fails only when the last buffer is written fails the transfer."""
    with pytest.raises(TransferError, match="No space left on device"):
        receive(FileTarget(Path("/dev/full")), pieces(b"x"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_full_disk(tmp_path: Path) -> None:
    """FX-01: the old file stays, the space is given back."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode()}")
    try:
        (disk / "out.tar").write_bytes(b"old")
        with pytest.raises(TransferError, match="No space left on device"):
            receive(FileTarget(disk / "out.tar"), *[pieces(b"x" * 30_000)] * 5)
        assert os.listdir(disk) == ["out.tar"]
        assert (disk / "out.tar").read_bytes() == b"old"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_packets_are_no_file(tmp_path: Path) -> None:
    """FX-06: for the parser a listing is empty messages; it must not make an empty file."""
    packet = Packet(stat=Stat(path=b"a"))
    with pytest.raises(RemoteProtocolError):
        receive(FileTarget(tmp_path / "out.tar"), [BytesMessage.parse(bytes(packet))])
    assert os.listdir(tmp_path) == []


# -- a stream -------------------------------------------------------------------------------------------------------


def test_a_stream_is_written_and_left_open() -> None:
    stream = io.BytesIO()
    receive(StreamTarget(stream), pieces(b"ab"), pieces(b"c"))
    assert stream.getvalue() == b"abc"


class Sips:
    """Takes three bytes at a time, as an unbuffered file may."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, data: bytes) -> int:
        self.taken += data[:3]
        return len(data[:3])


class Counts:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        self.sizes.append(len(data))


def test_small_pieces_are_put_together() -> None:
    """A call for each would cost a writer more than the bytes; what is big already stays as it is."""
    writer = Counts()
    small = [b"x" * 30_000] * 10
    receive(StreamTarget(writer), pieces(*small, b"y" * 1_000_000, *small))
    assert writer.sizes == [240_000, 60_000, 1_000_000, 240_000, 60_000]


def test_a_writer_that_takes_little_at_a_time_gets_it_all() -> None:
    writer = Sips()
    receive(StreamTarget(writer), pieces(b"0123456789"))
    assert writer.taken == b"0123456789"


class Fails:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, _data: bytes) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ValueError("closed file"), KeyError("x")])
def test_whatever_a_writer_raises_is_the_cause(error: Exception) -> None:
    """FX-03, CX-03: as the error of a transfer, so that it is shown as the reason of the failed build."""
    target = StreamTarget(Fails(error))
    with pytest.raises(TransferError) as caught:
        receive(target, pieces(b"x"))
    assert caught.value.__cause__ is error


class FailsLate(io.BytesIO):
    """As a buffered file on a full disk."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


@tricky(29)
def test_what_fails_to_be_flushed_fails_the_transfer() -> None:
    """FX-03."""
    with pytest.raises(TransferError, match="No space left"):
        receive(StreamTarget(FailsLate()), pieces(b"x"))


class Awaits:
    """Takes three bytes at a time, on the event loop."""

    def __init__(self) -> None:
        self.taken = b""
        self.flushed = b""

    async def write(self, data: bytes) -> int:
        await anyio.lowlevel.checkpoint()
        self.taken += data[:3]
        return len(data[:3])

    async def flush(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.flushed = self.taken


class Sends:
    """As the sending half of a stream of anyio."""

    def __init__(self) -> None:
        self.taken = b""

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.taken += item


class Drains(Sends):
    """As an ``asyncio.StreamWriter``: not for threads, and slowed down by waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.drained = 0

    def write(self, data: bytes) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.taken += data

    async def drain(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.drained += 1

    send = None  # type: ignore[assignment]  # it has none


def test_an_asynchronous_writer_is_awaited() -> None:
    """And flushed at the end."""
    writer = Awaits()
    receive(StreamTarget(writer), pieces(b"0123", b"", b"456789"), pieces(b"x"))
    assert writer.taken == writer.flushed == b"0123456789x"


def test_a_sender_is_awaited() -> None:
    writer = Sends()
    receive(StreamTarget(writer), pieces(b"ab", b"c"))
    assert writer.taken == b"abc"


def test_a_stream_writer_is_used_on_the_loop_and_drained() -> None:
    writer = Drains()
    receive(StreamTarget(writer), pieces(b"ab"), pieces(b"c"))
    assert (writer.taken, writer.drained) == (b"abc", 2)


class FailsAwaiting:
    async def write(self, _data: bytes) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")


def test_what_an_asynchronous_writer_raises_is_the_cause() -> None:
    with pytest.raises(TransferError, match="Connection reset by peer") as caught:
        receive(StreamTarget(FailsAwaiting()), pieces(b"x"))
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_an_asynchronous_writer_can_be_cancelled() -> None:
    class Stuck:
        async def write(self, _data: bytes) -> None:
            await anyio.sleep_forever()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(StreamTarget(Stuck()).receive, _call(pieces(b"x")))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    anyio.run(main)


# -- a directory ----------------------------------------------------------------------------------------------------

EMPTY_EXPORT = ([Packet()], [Packet(type=PacketPacketType.PACKET_FIN)])


def test_a_directory_is_made(tmp_path: Path) -> None:
    """With its parents; private, as upstream makes it."""
    target = DirectoryTarget(tmp_path / "a/b")
    receive(target, *EMPTY_EXPORT)
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
    assert len(target.written) == 1


def test_the_destination_may_be_a_link(tmp_path: Path) -> None:
    """The one link that is followed."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    listing = [Packet(stat=Stat(path=b"d", mode=0x80000000 | 0o755)), Packet()]
    receive(DirectoryTarget(tmp_path / "link"), listing, EMPTY_EXPORT[1])
    assert (tmp_path / "real/d").is_dir()


@pytest.mark.parametrize("where", ["file", "file/below", "dangling"])
def test_a_destination_that_is_no_directory(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "dangling").symlink_to("file/below")
    with pytest.raises(TransferError, match=where):
        receive(DirectoryTarget(tmp_path / where), *EMPTY_EXPORT)
    assert (tmp_path / "file").read_bytes() == b"old"


# -- what becomes of what is there ----------------------------------------------------------------------------------

DIR = 0x80000000 | 0o755


def listing(*names: bytes) -> tuple[list[Packet], list[Packet]]:
    """The export of a tree of directories."""
    return [*(Packet(stat=Stat(path=name, mode=DIR)) for name in names), Packet()], EMPTY_EXPORT[1]


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """With an old tree."""
    path = tmp_path / "dest"
    (path / "old").mkdir(parents=True)
    (path / "old/file").write_bytes(b"old")
    return path


def commit(target: Target) -> Exported | None:
    return anyio.run(target.commit)


AFTERWARDS: list[tuple[PlacementMode, list[str], int]] = [
    ("merge", ["new", "old", "old/file"], 0),
    ("mirror", ["new"], 2),
    ("swap", ["new"], 0),
]


@pytest.mark.parametrize(("mode", "expected", "removed"), AFTERWARDS)
def test_modes(dest: Path, mode: PlacementMode, expected: list[str], removed: int) -> None:
    """What was there is removed only by a commit, and a second one does nothing."""
    target = DirectoryTarget(dest, mode=mode)
    receive(target, *listing(b"new"))
    assert (dest / "old/file").exists()
    assert commit(target) == commit(target) == Exported(dest, directories=1, removed=removed)
    anyio.run(target.abandon)
    assert names(dest) == expected
    assert os.listdir(dest.parent) == ["dest"]


@pytest.mark.parametrize("mode", ["merge", "mirror", "swap"])
@pytest.mark.parametrize("fault", [RESET, RpcError(13, "cut off"), []], ids=["reset", "cut off", "early end"])
def test_a_broken_stream_removes_nothing(dest: Path, mode: PlacementMode, fault: Any) -> None:
    """DR-20: nor does it leave the tree that was built aside."""
    target = DirectoryTarget(dest, mode=mode)
    with pytest.raises((StreamReset, RpcError, TransferError)):
        receive(target, listing(b"new")[0], fault)
    with pytest.raises((StreamReset, RpcError, TransferError)):
        anyio.run(target.finished)
    anyio.run(target.abandon)
    assert (dest / "old/file").read_bytes() == b"old"
    assert os.listdir(dest.parent) == ["dest"]
    assert ("new" in names(dest)) == (mode != "swap")


@tricky(32)
@pytest.mark.parametrize(("mode", "kept"), [("merge", ["old", "old/file"]), ("mirror", []), ("swap", [])])
def test_streams_of_several_platforms_at_once(dest: Path, mode: PlacementMode, kept: list[str]) -> None:
    """DR-31: each with its own folder, in turns; only together are they the result."""
    target = DirectoryTarget(dest, mode=mode)
    platforms = [b"linux_amd64", b"linux_arm64"]

    async def main() -> None:
        both_listing = anyio.Event()
        begun = 0

        class Platform(ScriptedCall):
            """Goes on when the other one has begun as well."""

            async def recv_many(self) -> list[Any]:
                nonlocal begun
                batch = await super().recv_many()
                begun += 1
                if begun == len(platforms):
                    both_listing.set()
                await both_listing.wait()
                return batch

        async with anyio.create_task_group() as tasks:
            for platform in platforms:
                first, rest = [Packet(stat=Stat(path=platform, mode=DIR))], listing(platform + b"/bin")
                tasks.start_soon(target.receive, cast("IncomingCall[Any, Any]", Platform(first, *rest)))
        assert await target.finished()
        exported = await target.commit()
        assert exported.directories == 4

    anyio.run(main)
    expected = [f"linux_{arch}{below}" for arch in ("amd64", "arm64") for below in ("", "/bin")]
    assert names(dest) == sorted([*expected, *kept])


def test_a_listing_writes_nothing(tmp_path: Path) -> None:
    target = ListingTarget(ReceiveOptions(exclude=("b",)))
    receive(target, *listing(b"a", b"b"))
    exported = commit(target)
    assert exported is not None
    assert exported.dest is None
    assert [(entry.path, entry.kind) for entry in exported.entries] == [("a", "directory")]
    assert os.listdir(tmp_path) == []


def test_what_is_exported_is_summed_up(dest: Path) -> None:
    """Over all streams, with what was dropped."""
    target = DirectoryTarget(dest)
    pipe = Stat(path=b"p", mode=0x02000000 | 0x00800000 | 0o644, xattrs={"user.a": b"1"})
    for _ in range(2):
        receive(target, [Packet(stat=pipe), Packet()], EMPTY_EXPORT[1])
    assert commit(target) == Exported(dest, files=2, dropped_bits=2, dropped_xattrs=2)


def test_a_file_has_nothing_more_to_say(tmp_path: Path) -> None:
    target = FileTarget(tmp_path / "x")
    receive(target, pieces(b"x"))
    assert commit(target) is None
    anyio.run(target.abandon)
    assert (tmp_path / "x").exists()


# -- the count of streams -------------------------------------------------------------------------------------------


def test_finished_waits_for_all_streams(tmp_path: Path) -> None:
    """An export may have one for each platform."""
    target = DirectoryTarget(tmp_path)
    events: list[str] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            late = anyio.Event()

            class Late(ScriptedCall):
                async def recv_many(self) -> list[Any]:
                    await late.wait()
                    events.append("late")
                    return await super().recv_many()

            tasks.start_soon(target.receive, cast("IncomingCall[Any, Any]", Late(*EMPTY_EXPORT)))
            tasks.start_soon(target.receive, _call(*EMPTY_EXPORT))

            async def wait() -> None:
                assert await target.finished()
                events.append("finished")

            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert events == []
            late.set()

    anyio.run(main)
    assert events == ["late", "late", "finished"]
    assert len(target.written) == 2


def test_a_cancelled_wait_is_no_failed_export(tmp_path: Path) -> None:
    """The cancellation may reach the stream first; the one who waits for it is cancelled too, and told nothing else."""

    async def main() -> None:
        target = DirectoryTarget(tmp_path / "out")
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(target.receive, _call(stalled=True))
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                await target.finished()
        assert scope.cancelled_caught

    anyio.run(main)


def test_nothing_received_is_not_finished_well(tmp_path: Path) -> None:
    assert anyio.run(FileTarget(tmp_path / "x").finished) is False


def test_one_failed_stream_is_a_failure(tmp_path: Path) -> None:
    """Whatever the daemon says about the build, and if another stream arrived whole."""
    target = FileTarget(tmp_path / "out.tar")
    with pytest.raises(StreamReset):
        receive(target, RESET)
    receive(target, pieces(b"x"))
    with pytest.raises(StreamReset):
        anyio.run(target.finished)
