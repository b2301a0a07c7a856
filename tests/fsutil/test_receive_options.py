"""What a receiver takes of a listing: permissions, patterns, only what has changed, nothing but the names."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import anyio
import pytest
from tricky_cases import tricky
from wires import (
    ANY_TIME,
    Daemon,
    Entry,
    device,
    directory,
    export,
    fifo,
    file,
    hard_link,
    joined,
    open_descriptors,
    receive_entries,
    symlink,
    temporary_names,
    together,
    tree,
)

from buildkit_session.errors import InputError, TransferError
from buildkit_session.fsutil.modes import GoMode
from buildkit_session.fsutil.options import DEFAULT, ReceiveOptions
from buildkit_session.fsutil.packets import REQ
from buildkit_session.fsutil.policy import Policy
from buildkit_session.fsutil.receiver import receive_listing, receive_tree
from buildkit_session.messages.fsutil.types import Stat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from buildkit_session.fsutil.listing import ListedEntry

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
needs_no_root = pytest.mark.skipif(os.geteuid() == 0, reason="root is not bound by permissions")

UPSTREAM = ReceiveOptions(policy=Policy(upstream=True))
INCREMENTAL = ReceiveOptions(incremental=True)
SPECIAL = GoMode.SETUID | GoMode.SETGID | GoMode.STICKY


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    path = tmp_path / "dest"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path: Path) -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before
    assert temporary_names(tmp_path) == []


def bits(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def with_xattrs(entry: Entry, **xattrs: bytes) -> Entry:
    entry.stat.xattrs = {key.replace("_", "."): value for key, value in xattrs.items()}
    return entry


# -- permissions ----------------------------------------------------------------------------------------------------


@tricky(35)
def test_upstream_keeps_special_bits(dest: Path) -> None:
    """Also of a pipe and of a file that was listed under two names; nothing counts as dropped."""
    listing = directory(b"d", 0o755 | GoMode.SETGID), file(b"f", mode=0o751 | SPECIAL), fifo(b"p", 0o600 | SPECIAL)
    received = receive_entries(dest, *listing, options=UPSTREAM)
    assert received.error is None
    assert [bits(dest / name) for name in "dfp"] == [0o2755, 0o7751, 0o7600]
    assert received.written is not None
    assert received.written.dropped_bits == 0


def test_safe_drops_special_bits_and_attributes_and_counts_them(dest: Path) -> None:
    """Bits by file; attributes by entry. Bits of directories stay: they harm nobody."""
    received = receive_entries(
        dest,
        with_xattrs(directory(b"d", 0o755 | GoMode.STICKY), user_a=b"1"),
        with_xattrs(file(b"f", mode=0o755 | SPECIAL), user_a=b"1"),
        fifo(b"p", 0o644 | GoMode.SETUID),
        file(b"plain"),
    )
    assert received.error is None
    assert [bits(dest / name) for name in ("d", "f", "p")] == [0o1755, 0o755, 0o644]
    assert os.listxattr(dest / "f") == os.listxattr(dest / "d") == []
    assert received.written is not None
    assert (received.written.dropped_bits, received.written.dropped_xattrs) == (2, 2)


def test_upstream_applies_attributes_and_ignores_what_cannot_be(dest: Path) -> None:
    """As upstream: no transfer fails for an attribute that the file system or the system refuses."""
    listing = (
        with_xattrs(directory(b"d"), user_a=b"1"),
        with_xattrs(file(b"f", mode=0o444), user_a=b"1", user_b=b"\0\xff", nosuch_c=b"3"),
        with_xattrs(symlink(b"l", b"f"), user_a=b"1"),
        with_xattrs(fifo(b"p"), user_a=b"1"),
    )
    listing[1].stat.xattrs["user.\0"] = b"4"
    try:
        os.setxattr(dest, "user.probe", b"")
    except OSError:
        pytest.skip("this file system has no attributes")
    received = receive_entries(dest, *listing, options=UPSTREAM)
    assert received.error is None
    assert os.getxattr(dest / "d", "user.a") == b"1"
    assert {key: os.getxattr(dest / "f", key) for key in os.listxattr(dest / "f")} == {
        "user.a": b"1",
        "user.b": b"\0\xff",
    }
    assert (dest / "f").stat().st_mtime_ns == ANY_TIME


@needs_root
def test_upstream_makes_devices(dest: Path) -> None:
    received = receive_entries(
        dest,
        device(b"block", GoMode.DEVICE, 7, 0x12345, 0o640),
        device(b"char", GoMode.DEVICE | GoMode.CHAR_DEVICE, 1, 3, 0o666 | GoMode.STICKY),
        options=UPSTREAM,
    )
    assert received.error is None
    block, char = (dest / "block").stat(), (dest / "char").stat()
    assert (block.st_mode, block.st_rdev) == (stat.S_IFBLK | 0o640, os.makedev(7, 0x12345))
    assert (char.st_mode, char.st_rdev) == (stat.S_IFCHR | 0o1666, os.makedev(1, 3))
    assert block.st_mtime_ns == char.st_mtime_ns == ANY_TIME


@pytest.mark.parametrize("numbers", [(-1, 0), (0, -1), (1 << 12, 0), (0, 1 << 20), (2**63 - 1, 2**63 - 1)])
def test_impossible_device_numbers(dest: Path, numbers: tuple[int, int]) -> None:
    received = receive_entries(dest, device(b"x", GoMode.DEVICE, *numbers), options=UPSTREAM)
    assert isinstance(received.error, TransferError)
    assert received.error.path == b"x"


@needs_no_root
def test_a_device_that_may_not_be_made(dest: Path) -> None:
    received = receive_entries(dest, device(b"x", GoMode.DEVICE, 7, 0), options=UPSTREAM)
    assert "privileges" in str(received.error)


def test_a_refused_device_names_the_options(dest: Path) -> None:
    """DR-14."""
    received = receive_entries(dest, device(b"dev", GoMode.DEVICE, 7, 0))
    assert isinstance(received.error, TransferError)
    assert "permissions=upstream" in str(received.error)
    assert "exclude" in str(received.error)


@tricky(19)
def test_a_socket_is_never_made(dest: Path) -> None:
    received = receive_entries(dest, Entry(Stat(path=b"s", mode=0o666 | GoMode.SOCKET)), options=UPSTREAM)
    assert isinstance(received.error, TransferError)
    assert os.listdir(dest) == []


def test_umask_takes_permissions_away(dest: Path) -> None:
    """From files, pipes and directories; links have none."""
    listing = directory(b"d", 0o777), file(b"d/f", mode=0o666), symlink(b"l", b"d"), fifo(b"p", 0o666)
    assert receive_entries(dest, *listing, options=ReceiveOptions(policy=Policy(umask=0o027))).error is None
    assert [bits(dest / name) for name in ("d", "d/f", "l", "p")] == [0o750, 0o640, 0o777, 0o640]


@tricky(17)
@pytest.mark.parametrize("options", [DEFAULT, UPSTREAM], ids=["safe", "upstream"])
def test_everything_belongs_to_the_caller(dest: Path, options: ReceiveOptions) -> None:
    """DR-16: whoever owns it in the image."""
    listing = directory(b"d"), file(b"d/f"), hard_link(b"d/g", b"d/f"), symlink(b"l", b"d"), fifo(b"p")
    for entry in listing:
        entry.stat.uid, entry.stat.gid = 55, 66
    assert receive_entries(dest, *listing, options=options).error is None
    for name in ("d", "d/f", "d/g", "l", "p"):
        found = (dest / name).lstat()
        assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid()), name


@needs_root
def test_owner_of_everything(dest: Path) -> None:
    """Links themselves, not what they lead to; the listing's own ids count for nothing (DR-16)."""
    listing = directory(b"d"), file(b"d/f"), hard_link(b"d/g", b"d/f"), symlink(b"l", b"/etc/passwd"), fifo(b"p")
    for entry in listing:
        entry.stat.uid, entry.stat.gid = 55, 66
    assert receive_entries(dest, *listing, options=ReceiveOptions(policy=Policy(owner=(1234, 4321)))).error is None
    for name in ("d", "d/f", "d/g", "l", "p"):
        found = (dest / name).lstat()
        assert (found.st_uid, found.st_gid) == (1234, 4321), name
    assert os.stat("/etc/passwd").st_uid == 0


@tricky(35)
@needs_root
def test_an_owner_keeps_special_bits(dest: Path) -> None:
    """A change of owner takes them away; permissions follow it."""
    policy = Policy(upstream=True, owner=(1234, 4321))
    assert receive_entries(dest, file(b"f", mode=0o755 | SPECIAL), options=ReceiveOptions(policy=policy)).error is None
    assert bits(dest / "f") == 0o7755


@needs_root
def test_upstream_takes_the_own_group_in_a_set_group_id_directory(dest: Path) -> None:
    os.chown(dest, 0, 4321)
    dest.chmod(0o2755)
    assert receive_entries(dest, file(b"theirs")).error is None
    assert receive_entries(dest, file(b"own"), options=UPSTREAM).error is None
    assert [(dest / name).stat().st_gid for name in ("theirs", "own")] == [4321, os.getgid()]


# -- patterns -------------------------------------------------------------------------------------------------------

NESTED = (
    directory(b"a", 0o750, mtime=1),
    directory(b"a/b", 0o711, mtime=2),
    file(b"a/b/keep"),
    file(b"a/b/other"),
    directory(b"c"),
    file(b"c/keep.log"),
    symlink(b"l", b"a"),
    file(b"z"),
)

CHOICES = {
    "include a file": ((), ("a/b/keep",), {b"a", b"a/b", b"a/b/keep"}),
    "include by wildcard": ((), ("**/keep*",), {b"a", b"a/b", b"a/b/keep", b"c", b"c/keep.log"}),
    "exclude a tree": (("a",), (), {b"c", b"c/keep.log", b"l", b"z"}),
    "exception": (("a", "!a/b/keep"), (), {b"a", b"a/b", b"a/b/keep", b"c", b"c/keep.log", b"l", b"z"}),
    "both": (("**/*.log",), ("c", "z"), {b"c", b"z"}),
    "nothing matches": ((), ("nosuch",), set()),
    "content only": (("a/**",), ("a", "l"), {b"a", b"l"}),
}


@pytest.mark.parametrize(("exclude", "include", "expected"), CHOICES.values(), ids=CHOICES)
def test_patterns(dest: Path, exclude: tuple[str, ...], include: tuple[str, ...], expected: set[bytes]) -> None:
    """What is left out is neither written nor asked for; directories on the way are made as they are listed."""
    received = receive_entries(dest, *NESTED, options=ReceiveOptions(include=include, exclude=exclude))
    assert received.error is None
    got = tree(dest)
    assert set(got) == expected
    wanted = [n for n, entry in enumerate(NESTED) if entry.content is not None and entry.stat.path in expected]
    assert sorted(received.asked()) == wanted
    if b"a/b" in expected:
        assert got[b"a/b"][:2] == (oct(stat.S_IFDIR | 0o711), 2)


def test_left_out_devices_do_no_harm(dest: Path) -> None:
    """What the error about them advises."""
    listing = directory(b"dev"), device(b"dev/zero", GoMode.DEVICE, 7, 0), file(b"f")
    assert receive_entries(dest, *listing, options=ReceiveOptions(exclude=("dev",))).error is None
    assert os.listdir(dest) == ["f"]


def test_a_link_whose_first_name_is_left_out_becomes_the_file(dest: Path) -> None:
    """FP-08: with the content that the daemon has under the first name only; later names are links to it."""
    listing = (
        directory(b"a"),
        file(b"a/first", b"shared", 0o600),
        directory(b"b"),
        Entry(Stat(path=b"b/second", mode=0o600, size=0, linkname=b"a/first", mod_time=ANY_TIME)),
        hard_link(b"b/third", b"a/first"),
    )
    received = receive_entries(dest, *listing, options=ReceiveOptions(include=("b",)))
    assert received.error is None
    assert received.asked() == [1]
    assert sorted(tree(dest)) == [b"b", b"b/second", b"b/third"]
    assert (dest / "b/second").read_bytes() == b"shared"
    assert bits(dest / "b/second") == 0o600
    assert os.path.samefile(dest / "b/second", dest / "b/third")


def test_a_link_to_a_kept_name_may_be_left_out(dest: Path) -> None:
    listing = file(b"a"), hard_link(b"b", b"a"), hard_link(b"c", b"a")
    assert receive_entries(dest, *listing, options=ReceiveOptions(exclude=("b",))).error is None
    assert os.path.samefile(dest / "a", dest / "c")
    assert not (dest / "b").exists()


@pytest.mark.parametrize("name", [b"\xff\xfe", b"caf\xc3\xa9"])
def test_names_that_are_no_text_can_be_left_out(dest: Path, name: bytes) -> None:
    """By a wildcard, or by the name as Python decodes it."""
    for pattern in ("*", os.fsdecode(name)):
        assert receive_entries(dest, file(name), options=ReceiveOptions(exclude=(pattern,))).asked() == []


def test_a_listing_is_checked_whatever_is_left_out(dest: Path) -> None:
    """DR-01: patterns do not make a path harmless."""
    received = receive_entries(dest, file(b"../x"), options=ReceiveOptions(include=("nosuch",)))
    assert received.error is not None


def test_a_malformed_pattern(dest: Path) -> None:
    received = receive_entries(dest, options=ReceiveOptions(include=("[",)))
    assert isinstance(received.error, InputError)
    assert received.told() == str(received.error)


# -- incremental ----------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_asked_for(dest: Path) -> None:
    """A second export asks for nothing and changes nothing."""
    listing = directory(b"d", 0o555), file(b"d/f"), hard_link(b"d/g", b"d/f"), symlink(b"l", b"d"), file(b"z", b"")
    assert receive_entries(dest, *listing).error is None
    before = tree(dest)
    inode = (dest / "d/f").stat().st_ino
    received = receive_entries(dest, *listing, options=INCREMENTAL)
    assert received.error is None
    assert received.asked() == []
    assert received.written is not None
    assert received.written.unchanged == 2
    assert tree(dest) == before
    assert (dest / "d/f").stat().st_ino == inode
    assert (dest / "d/g").stat().st_nlink == 2


@pytest.mark.parametrize(
    "changed",
    [
        file(b"f", b"longer content"),
        file(b"f", mtime=ANY_TIME + 1),
        file(b"f", mode=0o600),
    ],
    ids=["size", "time", "mode"],
)
def test_what_has_changed_is_asked_for(dest: Path, changed: Entry) -> None:
    assert receive_entries(dest, file(b"e"), file(b"f")).error is None
    received = receive_entries(dest, file(b"e"), changed, options=INCREMENTAL)
    assert received.asked() == [1]
    assert received.error is None
    assert changed.content == (dest / "f").read_bytes()
    assert changed.stat.mod_time == (dest / "f").stat().st_mtime_ns


@pytest.mark.parametrize("what", ["missing", "link", "directory", "fifo"])
def test_what_is_no_file_is_asked_for(dest: Path, tmp_path: Path, what: str) -> None:
    """DR-07, DR-08: a link at an equal file is replaced, as without the option."""
    receive_entries(tmp_path, file(b"equal"))
    match what:
        case "link":
            (dest / "f").symlink_to(tmp_path / "equal")
        case "directory":
            (dest / "f").mkdir()
        case "fifo":
            os.mkfifo(dest / "f")
    received = receive_entries(dest, file(b"f"), options=INCREMENTAL)
    assert received.asked() == [0]
    assert stat.S_ISREG((dest / "f").lstat().st_mode)


def test_files_that_were_one_are_two(dest: Path) -> None:
    """Equal in size and time, but no longer links to each other: each must get its own content."""
    assert receive_entries(dest, file(b"a"), hard_link(b"b", b"a")).error is None
    received = receive_entries(dest, file(b"a"), file(b"b", b"CONTENT"), options=INCREMENTAL)
    assert received.asked() == [1]
    assert [(dest / name).read_bytes() for name in "ab"] == [b"content", b"CONTENT"]


def test_files_that_were_two_are_one(dest: Path) -> None:
    assert receive_entries(dest, file(b"a"), file(b"b")).error is None
    received = receive_entries(dest, file(b"a"), hard_link(b"b", b"a"), options=INCREMENTAL)
    assert received.asked() == []
    assert os.path.samefile(dest / "a", dest / "b")


def test_equal_means_as_the_policy_would_write_it(dest: Path) -> None:
    """Bits that are not applied make no difference."""
    entry = file(b"f", mode=0o775 | SPECIAL)
    options = ReceiveOptions(policy=Policy(umask=0o022), incremental=True)
    assert receive_entries(dest, entry, options=options).asked() == [0]
    assert receive_entries(dest, entry, options=options).asked() == []
    assert receive_entries(dest, entry, options=INCREMENTAL).asked() == [0]


@needs_root
def test_another_owner_is_a_change(dest: Path) -> None:
    options = ReceiveOptions(policy=Policy(owner=(1234, 4321)), incremental=True)
    assert [receive_entries(dest, file(b"f"), options=options).asked() for _ in range(2)] == [[0], []]


# -- several streams ------------------------------------------------------------------------------------------------


@tricky(32)
@pytest.mark.parametrize("folders", [("linux_amd64/", "linux_arm64/"), ("", "")], ids=["split", "not split"])
def test_two_platforms_at_once(dest: Path, folders: tuple[str, str]) -> None:
    """DR-31: two streams into one directory, in turns; with folders of their own, or into the same ones."""

    def listing(folder: str, platform: str) -> list[Entry]:
        entries = [directory(b"bin"), *(file(b"bin/%s%d" % (platform.encode(), n), b"%d" % n) for n in range(200))]
        entries.append(hard_link(b"bin/same", b"bin/%s0" % platform.encode()))
        for entry in entries:
            entry.stat.path = folder.encode() + entry.stat.path
            entry.stat.linkname = folder.encode() + entry.stat.linkname if entry.stat.linkname else b""
        entries.sort(key=lambda entry: entry.stat.path.split(b"/"))
        return [directory(folder.encode().rstrip(b"/")), *entries] if folder else entries

    async def main() -> None:
        root_fd = os.open(dest, os.O_RDONLY)
        try:
            async with anyio.create_task_group() as tasks:
                for folder, platform in zip(folders, ("amd", "arm"), strict=True):
                    ours, theirs = joined()
                    script = export(Daemon(theirs), listing(folder, platform))
                    tasks.start_soon(together, ours, receive_tree(ours, root_fd), script)
        finally:
            os.close(root_fd)

    anyio.run(main)
    for folder, platform in zip(folders, ("amd", "arm"), strict=True):
        for number in range(200):
            assert (dest / f"{folder}bin/{platform}{number}").read_text() == str(number)
        assert (dest / f"{folder}bin/same").read_text() == "0"
    assert len(tree(dest)) == (2 + 1 + 1 + 402 if folders[0] else 1 + 401)


# -- only listed ----------------------------------------------------------------------------------------------------


def list_entries(*entries: Entry, options: ReceiveOptions) -> list[ListedEntry]:
    async def main() -> list[ListedEntry]:
        ours, theirs = joined()
        listed = await together(ours, receive_listing(ours, options), export(Daemon(theirs), entries))
        assert REQ not in {packet.type for packet in ours.sent}
        return listed

    return anyio.run(main)


def test_a_listing_has_all_that_is_known() -> None:
    """Kind, mode, size, time, link; nothing is asked for."""
    linked = hard_link(b"g", b"f")
    linked.stat.uid, linked.stat.gid = 5, 6
    listed = list_entries(
        directory(b"d", 0o755 | GoMode.STICKY),
        file(b"f", b"hello", 0o755 | GoMode.SETUID, mtime=-1),
        linked,
        symlink(b"l", b"\xff"),
        fifo(b"p"),
        device(b"x", GoMode.DEVICE, 1, 2),
        options=ReceiveOptions(),
    )
    assert [(entry.path, entry.kind, entry.mode, entry.size, entry.linkname) for entry in listed] == [
        ("d", "directory", 0o1755, 0, ""),
        ("f", "file", 0o4755, 5, ""),
        ("g", "file", 0o644, 7, "f"),
        ("l", "symlink", 0o777, 1, "\udcff"),
        ("p", "fifo", 0o640, 0, ""),
        ("x", "block device", 0o666, 0, ""),
    ]
    assert listed[1].mtime_ns == -1
    assert (listed[2].uid, listed[2].gid) == (5, 6)


def test_a_listing_takes_patterns() -> None:
    listed = list_entries(*NESTED, options=ReceiveOptions(include=("**/keep",)))
    assert [entry.path for entry in listed] == ["a", "a/b", "a/b/keep"]
