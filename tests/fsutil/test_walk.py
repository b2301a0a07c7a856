"""Listing a tree (threat ids FP-04, FP-08, FP-14, DS-09 to DS-13, DS-16, DS-19)."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tricky_cases import tricky

import buildkit_session
from buildkit_session.errors import InputError, TransferError
from buildkit_session.fsutil.beneath import open_directory, read_link
from buildkit_session.fsutil.filter import Filter, Selection
from buildkit_session.fsutil.modes import GoMode
from buildkit_session.fsutil.walk import OPEN_DIRECTORIES, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from buildkit_session.fsutil.filter import Verdict
    from buildkit_session.messages.fsutil.types import Stat


def listed(root: Path | bytes, filtered: Filter | None = None) -> list[Stat]:
    descriptor = os.open(root, os.O_RDONLY)
    try:
        return list(walk(descriptor, filtered or Filter()))
    finally:
        os.close(descriptor)


def paths(root: Path | bytes, **filtered: tuple[str, ...]) -> list[str]:
    return [entry.path.decode() for entry in listed(root, Filter(**filtered))]


def make(root: Path, *entries: str) -> None:
    """Make files, and directories where the name ends in a slash."""
    for entry in entries:
        path = root / entry
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text(entry)


def by_path(entries: Iterable[Stat]) -> dict[str, Stat]:
    return {entry.path.decode(): entry for entry in entries}


# --- order and traversal ----------------------------------------------------------------------------------------------


@tricky(14)
def test_components_are_ordered_and_not_strings(tmp_path: Path) -> None:
    make(tmp_path, "foo.txt", "foo-bar", "foo/x", "foo/a/b", "Z", "é")
    assert paths(tmp_path) == ["Z", "foo", "foo/a", "foo/a/b", "foo/x", "foo-bar", "foo.txt", "é"]


def test_empty_root(tmp_path: Path) -> None:
    assert listed(tmp_path) == []


NAMES = st.binary(min_size=1, max_size=6).filter(lambda n: b"/" not in n and b"\0" not in n and n not in {b".", b".."})


@tricky(14)
@settings(max_examples=50, deadline=None)
@given(st.sets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=12))
def test_any_names_come_in_the_order_of_their_bytes(files: set[tuple[bytes, ...]]) -> None:
    """DS-12, with names of arbitrary bytes."""
    with TemporaryDirectory() as place:
        for components in files:
            parent = os.path.join(os.fsencode(place), *components[:-1])
            try:
                os.makedirs(parent, exist_ok=True)
                os.close(os.open(os.path.join(parent, components[-1]), os.O_CREAT | os.O_WRONLY))
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue  # the name is taken by an entry of another kind
        found = [tuple(entry.path.split(b"/")) for entry in listed(os.fsencode(place))]
        on_disk = subprocess.check_output(["find", place, "-mindepth", "1", "-printf", "%P\\0"]).split(b"\0")[:-1]
    assert found == sorted(tuple(path.split(b"/")) for path in on_disk)


def test_links_are_listed_and_not_followed(tmp_path: Path) -> None:
    make(tmp_path, "d/x")
    for name, target in {"to-d": "d", "loop": ".", "out": "/etc", "none": "no/where"}.items():
        (tmp_path / name).symlink_to(target)
    found = by_path(listed(tmp_path))
    assert list(found) == ["d", "d/x", "loop", "none", "out", "to-d"]
    assert {name: entry.linkname for name, entry in found.items() if entry.linkname} == {
        "to-d": b"d",
        "loop": b".",
        "out": b"/etc",
        "none": b"no/where",
    }
    assert all(found[name].mode == GoMode.SYMLINK | 0o777 for name in ("to-d", "loop", "out", "none"))
    assert found["none"].size == len("no/where")


def test_root_that_was_replaced_is_still_the_one_that_was_opened(tmp_path: Path) -> None:
    """DS-16: the root is resolved once, by whoever opened it; a link may have led there."""
    make(tmp_path, "tree/x", "other/y")
    (tmp_path / "link").symlink_to("tree")
    descriptor = os.open(tmp_path / "link", os.O_RDONLY)
    entries = walk(descriptor)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("other")
    assert [entry.path for entry in entries] == [b"x"]
    os.close(descriptor)


def make_deep(root: Path, depth: int) -> None:
    """Nest directories, deeper than a path may be long if so asked; each has a file before and one after the next."""
    root.mkdir()
    current = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        for name in ("a", "z"):
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=current))
        os.mkdir("directory", dir_fd=current)
        following = os.open("directory", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = following
    os.close(current)


def test_deep_tree_needs_few_descriptors_and_no_recursion(tmp_path: Path) -> None:
    depth = 2000
    make_deep(tmp_path / "deep", depth)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 2 * OPEN_DIRECTORIES, hard))
    try:
        found = [entry.path for entry in listed(tmp_path / "deep")]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        # shutil, with which pytest cleans up, would recurse.
        subprocess.run(["rm", "-rf", tmp_path / "deep"], check=True)
    assert len(found) == 3 * depth
    assert found[:3] == [b"a", b"directory", b"directory/a"]
    assert found[-2:] == [b"directory/z", b"z"]


def test_directory_moved_away_below_a_deep_walk_does_not_lead_outside(tmp_path: Path) -> None:
    """Going up by ``..`` is checked: where it leads may be another place by then."""
    make_deep(tmp_path / "deep", 3 * OPEN_DIRECTORIES)
    make(tmp_path, "outside/zz")
    descriptor = os.open(tmp_path / "deep", os.O_RDONLY)
    entries = walk(descriptor)
    for _ in islice(entries, 5 * OPEN_DIRECTORIES):
        pass
    (tmp_path / "deep/directory").rename(tmp_path / "outside/directory")
    with pytest.raises(TransferError, match="moved away"):
        list(entries)
    os.close(descriptor)


def test_closing_early_gives_descriptors_back(tmp_path: Path) -> None:
    make(tmp_path, "a/b/c/d", "e")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    before = os.listdir("/proc/self/fd")
    entries = walk(descriptor)
    next(islice(entries, 2, None))
    assert len(os.listdir("/proc/self/fd")) > len(before)
    entries.close()
    assert os.listdir("/proc/self/fd") == before
    os.close(descriptor)


# --- what is said about an entry --------------------------------------------------------------------------------------


@tricky(15, 16)
def test_file_and_directory(tmp_path: Path) -> None:
    make(tmp_path, "d/file")
    (tmp_path / "d/file").chmod(0o4751)
    (tmp_path / "d").chmod(0o1770)
    os.utime(tmp_path / "d/file", ns=(0, -1_000_000_001))
    os.utime(tmp_path / "d", ns=(0, 1_234_567_890_123_456_789))
    directory, file = listed(tmp_path)
    assert (directory.mode, directory.size) == (GoMode.DIR | GoMode.STICKY | 0o770, 0)
    assert directory.mod_time == 1_234_567_890_123_456_789
    assert (file.mode, file.size, file.mod_time) == (GoMode.SETUID | 0o751, len("d/file"), -1_000_000_001)
    assert (file.linkname, file.devmajor, file.devminor) == (b"", 0, 0)


@tricky(17)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_is_always_root(tmp_path: Path) -> None:
    make(tmp_path, "file")
    os.chown(tmp_path / "file", 1234, 5678)
    assert [(entry.uid, entry.gid) for entry in listed(tmp_path)] == [(0, 0)]


@tricky(19)
def test_fifo_and_socket(tmp_path: Path) -> None:
    """DS-11: listed without being opened, or this test would hang; a socket becomes an empty file."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "socket").chmod(0o640)
    found = by_path(listed(tmp_path))
    assert (found["fifo"].mode, found["fifo"].size) == (GoMode.NAMED_PIPE | 0o600, 0)
    assert (found["socket"].mode, found["socket"].size) == (0o640, 0)


@tricky(15)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")
def test_devices(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "char", stat.S_IFCHR | 0o600, os.makedev(300, 70_000))
        os.mknod(tmp_path / "block", stat.S_IFBLK | 0o600, os.makedev(8, 1))
    except PermissionError:
        pytest.skip("devices cannot be made here")
    block, char = listed(tmp_path)
    assert (block.mode, block.devmajor, block.devminor) == (GoMode.DEVICE | 0o600, 8, 1)
    assert char.mode == GoMode.DEVICE | GoMode.CHAR_DEVICE | 0o600
    assert (char.devmajor, char.devminor) == (300, 70_000)


@tricky(18)
def test_further_names_of_a_file_name_the_first(tmp_path: Path) -> None:
    """DS-13: never a chain, and the size is the real one, as upstream sends it."""
    make(tmp_path, "d/b", "z", "single")
    os.link(tmp_path / "d/b", tmp_path / "c")
    os.link(tmp_path / "d/b", tmp_path / "d/e")
    found = by_path(listed(tmp_path))
    assert {name: entry.linkname for name, entry in found.items() if entry.linkname} == {"d/b": b"c", "d/e": b"c"}
    assert found["d/e"].size == found["c"].size == len("d/b")


@tricky(18)
def test_hard_links_across_a_filter(tmp_path: Path) -> None:
    """FP-08: the first name that is sent is the file."""
    make(tmp_path, "a")
    for name in ("b", "c"):
        os.link(tmp_path / "a", tmp_path / name)
    found = listed(tmp_path, Filter(exclude=("a",)))
    assert [(entry.path, entry.linkname) for entry in found] == [(b"b", b""), (b"c", b"b")]


def test_extended_attributes(tmp_path: Path) -> None:
    """DS-19: those of files and directories, but not Apple's, and never those behind a link."""
    make(tmp_path, "d/", "file")
    try:
        os.setxattr(tmp_path / "file", "user.key", b"\0value")
        os.setxattr(tmp_path / "d", "user.other", b"")
    except OSError:
        pytest.skip("no extended attributes on this file system")
    (tmp_path / "link").symlink_to("file")
    found = by_path(listed(tmp_path))
    assert found["file"].xattrs == {"user.key": b"\0value"}
    assert found["d"].xattrs == {"user.other": b""}
    assert found["link"].xattrs == {}


def test_attributes_that_cannot_be_read_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "file")

    def names_of(_path: bytes, *, follow_symlinks: bool) -> list[str]:
        assert not follow_symlinks
        return ["user.a", "com.apple.quarantine", "trusted.secret", "user.\udcff", "security.capability"]

    def value_of(_path: bytes, name: str, *, follow_symlinks: bool) -> bytes:
        assert not follow_symlinks
        if name == "trusted.secret":
            raise PermissionError
        return name.encode()

    monkeypatch.setattr(os, "listxattr", names_of)
    monkeypatch.setattr(os, "getxattr", value_of)
    assert listed(tmp_path)[0].xattrs == {"user.a": b"user.a", "security.capability": b"security.capability"}


# --- filters ----------------------------------------------------------------------------------------------------------


TREE = ("a", "d/a", "d/e/a", "d/e/keep", "d/keep", "empty/", "x.log")
ALL = ["a", "d", "d/a", "d/e", "d/e/a", "d/e/keep", "d/keep", "empty", "x.log"]


@tricky(21, 22, 23)
@pytest.mark.parametrize(
    ("filtered", "expected"),
    [
        (Filter(), ALL),
        (Filter(exclude=("d",)), ["a", "empty", "x.log"]),
        # FP-04: the parents of what is kept come before it, once, and nothing else of them.
        (Filter(exclude=("*", "!d/e/keep")), ["d", "d/e", "d/e/keep"]),
        (Filter(exclude=("d", "!**/keep")), ["a", "d", "d/e", "d/e/keep", "d/keep", "empty", "x.log"]),
        (Filter(exclude=("d/**",)), ["a", "d", "empty", "x.log"]),
        (Filter(include=("d/e",)), ["d", "d/e", "d/e/a", "d/e/keep"]),
        (Filter(include=("**/a",)), ["a", "d", "d/a", "d/e", "d/e/a"]),
        (Filter(include=("d",), exclude=("d/e", "!d/e/a")), ["d", "d/a", "d/e", "d/e/a", "d/keep"]),
        (Filter(include=("nothing",)), []),
        (Filter(include=(" ",)), []),
        (Filter(exclude=(" ",)), ALL),
        (Filter(include=("x*",), follow=("d/e/a",)), ["d", "d/e", "d/e/a", "x.log"]),
        (Filter(follow=("a", "d/e"), exclude=("**/keep",)), ["a", "d", "d/e", "d/e/a"]),
        # FP-07: the root is everything, and other includes still apply.
        (Filter(follow=(".", "a")), ALL),
        (Filter(follow=("/",), include=("a",)), ["a"]),
        (Filter(follow=("missing",)), []),
    ],
)
def test_filter(tmp_path: Path, filtered: Filter, expected: list[str]) -> None:
    make(tmp_path, *TREE)
    assert [entry.path.decode() for entry in listed(tmp_path, filtered)] == expected


def test_followed_links_come_with_their_targets(tmp_path: Path) -> None:
    make(tmp_path, "real/file", "real/other")
    (tmp_path / "link").symlink_to("real/file")
    assert paths(tmp_path, follow=("link",)) == ["link", "real", "real/file"]


def test_bad_pattern_is_refused_before_anything_is_listed(tmp_path: Path) -> None:
    make(tmp_path, "a")
    with pytest.raises(InputError, match="malformed"):
        listed(tmp_path, Filter(exclude=("[",)))


COMPONENT = st.sampled_from(["a", "b", "keep", "é"])
TREES = st.sets(st.lists(COMPONENT, min_size=1, max_size=4).map("/".join), max_size=12)
PATTERN = st.lists(st.sampled_from(["*", "**", "a", "b", "keep", "/", "/**", "/*"]), min_size=1, max_size=4).map(
    "".join
)
PATTERNS = st.lists(st.one_of(PATTERN, PATTERN.map("!_{}".format)), max_size=4).map(
    lambda found: tuple(pattern.replace("!_/", "!").replace("!_", "!") for pattern in found)
)


@settings(max_examples=100, deadline=None)
@given(TREES, PATTERNS, PATTERNS)
def test_pruning_changes_nothing(files: set[str], include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
    """Leaving out directories unread gives what reading every directory gives."""

    class _Unpruned(Selection):
        def keeps_nothing_below(self, verdict: Verdict) -> bool:  # noqa: ARG002 - the signature is given
            return False

    try:
        Selection(include, exclude)
    except InputError:
        return
    with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        for file in files:
            os.makedirs(os.path.join(place, file), exist_ok=True)
        pruned = listed(Path(place), Filter(include, exclude))
        patch.setattr("buildkit_session.fsutil.filter.Selection", _Unpruned)
        assert listed(Path(place), Filter(include, exclude)) == pruned


# --- trees that change or cannot be read ------------------------------------------------------------------------------


def test_pruned_directories_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "node_modules/x/y", "src/z")
    opened = []

    def record(name: bytes, *, dir_fd: int, to_list: bool) -> int:
        opened.append(name)
        return open_directory(name, dir_fd=dir_fd, to_list=to_list)

    monkeypatch.setattr("buildkit_session.fsutil.walk.open_directory", record)
    assert paths(tmp_path, exclude=("node_modules", "!src/x")) == ["src", "src/z"]
    assert opened == [b"src"]


def walk_unprivileged(root: Path, filtered: Filter) -> str:
    """Walk as a user who is not root, in a process of its own; returns the error, or the paths joined by spaces."""
    program = f"""
import os
descriptor = os.open({str(root)!r}, os.O_RDONLY)
from buildkit_session.errors import TransferError
from buildkit_session.fsutil.walk import Filter, walk
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
try:
    print(*(entry.path.decode() for entry in walk(descriptor, {filtered!r})))
except TransferError as error:
    print(error, error.path)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(buildkit_session.__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@tricky(20)
@pytest.mark.parametrize(
    ("filtered", "expected"),
    [
        (Filter(), "cannot read d/locked: Permission denied b'd/locked'"),
        (Filter(include=("d/l*",)), "cannot read d/locked: Permission denied b'd/locked'"),
        # FP-14: what is not wanted may be unreadable, even where something below might have been wanted.
        (Filter(exclude=("d/locked",)), "d d/x"),
        (Filter(exclude=("d/locked", "!**/keep")), "d d/x"),
        (Filter(include=("**/x",)), "d d/x"),
    ],
)
def test_unreadable_directory(tmp_path: Path, filtered: Filter, expected: str) -> None:
    """DS-09: named by its path in the tree."""
    tmp_path.chmod(0o755)
    make(tmp_path, "d/locked/keep", "d/x")
    (tmp_path / "d/locked").chmod(0)
    assert walk_unprivileged(tmp_path, filtered) == expected
    (tmp_path / "d/locked").chmod(0o700)


def test_unreadable_files_are_listed(tmp_path: Path) -> None:
    """Only reading a file needs permission; whether it is read is the receiver's choice."""
    tmp_path.chmod(0o755)
    make(tmp_path, "secret")
    (tmp_path / "secret").chmod(0)
    assert walk_unprivileged(tmp_path, Filter()) == "secret"


@tricky(20)
@pytest.mark.parametrize(
    "vanish",
    [
        lambda root: shutil.rmtree(root / "b"),
        lambda root: (root / "b").rename(root.parent / "elsewhere"),
    ],
)
def test_entry_that_vanishes_is_missing_alone(tmp_path: Path, vanish: Callable[[Path], None]) -> None:
    """DS-10: its siblings are listed, before and after."""
    root = tmp_path / "tree"
    make(root, "a", "b/x", "c", "d/y")
    descriptor = os.open(root, os.O_RDONLY)
    entries = walk(descriptor)
    first = next(entries)
    vanish(root)
    assert [entry.path for entry in (first, *entries)] == [b"a", b"c", b"d", b"d/y"]
    os.close(descriptor)


def test_directory_that_becomes_a_link_is_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swapped after it was looked at, which is the moment that matters."""
    make(tmp_path, "tree/a", "tree/d/x", "tree/z", "outside/secret")

    def swap_then_open(name: bytes, *, dir_fd: int, to_list: bool) -> int:
        (tmp_path / "tree/d").rename(tmp_path / "moved")
        (tmp_path / "tree/d").symlink_to("../outside")
        return open_directory(name, dir_fd=dir_fd, to_list=to_list)

    monkeypatch.setattr("buildkit_session.fsutil.walk.open_directory", swap_then_open)
    assert paths(tmp_path / "tree") == ["a", "z"]


def test_link_that_becomes_a_file_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("x")
    make(tmp_path, "z")

    def swap_then_read(name: bytes, *, dir_fd: int) -> bytes:
        (tmp_path / "link").unlink()
        (tmp_path / "link").touch()
        return read_link(name, dir_fd=dir_fd)

    monkeypatch.setattr("buildkit_session.fsutil.walk.read_link", swap_then_read)
    assert paths(tmp_path) == ["z"]


@tricky(21)
def test_parents_of_a_vanished_child_are_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that is not wanted itself appears only once a child is certain."""
    make(tmp_path, "d/keep")
    (tmp_path / "d/keep").unlink()
    (tmp_path / "d/keep").symlink_to("x")
    monkeypatch.setattr("buildkit_session.fsutil.walk.read_link", _gone)
    assert paths(tmp_path, exclude=("*", "!d/keep")) == []


def _gone(_name: bytes, *, dir_fd: int) -> bytes:
    raise FileNotFoundError(errno.ENOENT, "gone")


class Watching:
    """Takes down what an observer is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool, bool]] = []
        self.errors: list[TransferError] = []

    def judged(self, path: bytes, verdict: Verdict, *, parent: Verdict, directory: int) -> None:
        os.stat(path.rpartition(b"/")[2], dir_fd=directory, follow_symlinks=False)
        self.seen.append((path.decode(), parent.kept, verdict.kept))

    def unreadable(self, error: TransferError) -> None:
        self.errors.append(error)


def test_an_observer_sees_what_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a", "d/keep", "d/x", "pruned/x")
    watching = Watching()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    kept = [entry.path for entry in walk(descriptor, Filter(exclude=("*", "!d/keep")), observer=watching)]
    os.close(descriptor)
    assert kept == [b"d", b"d/keep"]
    assert watching.seen == [
        ("a", True, False),
        ("d", True, False),
        ("d/keep", False, True),
        ("d/x", False, False),
        ("pruned", True, False),
    ]


def test_an_observer_is_told_what_would_have_ended_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a", "b/x", "c")

    def refuse(name: bytes, *, dir_fd: int, to_list: bool) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("buildkit_session.fsutil.walk.open_directory", refuse)
    watching = Watching()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert [entry.path for entry in walk(descriptor, observer=watching)] == [b"a", b"c"]
    os.close(descriptor)
    assert [error.path for error in watching.errors] == [b"b"]
