"""Sender and receiver joined to each other: what goes in comes out."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from wires import open_descriptors, round_trip, temporary_names, tree


@dataclass(frozen=True)
class File:
    content: bytes
    mode: int
    mtime: int


@dataclass(frozen=True)
class Link:
    target: bytes
    mtime: int


@dataclass(frozen=True)
class Again:
    """One more name for a file made before, if there is one."""

    which: int


@dataclass(frozen=True)
class Pipe:
    mode: int


@dataclass(frozen=True)
class Directory:
    entries: dict[bytes, Node]
    mode: int
    mtime: int


Node: TypeAlias = "File | Link | Again | Pipe | Directory"

_mtimes = st.integers(-(2**31) * 10**9, 2**33 * 10**9)
_names = st.binary(min_size=1, max_size=12).filter(
    lambda name: not {0, ord("/")} & {*name} and name not in (b".", b"..") and not name.startswith(b".tmp.")
)
_targets = st.binary(min_size=1, max_size=30).filter(lambda target: b"\0" not in target)
# The owner must be able to read what is sent.
_files = st.builds(File, st.binary(max_size=100), st.integers(0, 0o777).map(lambda mode: mode | 0o400), _mtimes)
_leaves = (
    _files
    | st.builds(Link, _targets, _mtimes)
    | st.builds(Again, st.integers(0, 9))
    | st.builds(Pipe, st.integers(0, 0o777))
)
_trees = st.recursive(
    st.dictionaries(_names, _leaves, max_size=5),
    lambda below: st.dictionaries(
        _names,
        _leaves | st.builds(Directory, below, st.integers(0, 0o777).map(lambda mode: mode | 0o500), _mtimes),
        max_size=5,
    ),
    max_leaves=25,
)


def make(root: bytes, entries: dict[bytes, Node], made: list[bytes]) -> None:
    for name, node in entries.items():
        path = os.path.join(root, name)
        match node:
            case File(content, mode, mtime):
                with open(path, "wb") as stream:
                    stream.write(content)
                os.chmod(path, mode)
                os.utime(path, ns=(mtime, mtime))
                made.append(path)
            case Link(target, mtime):
                os.symlink(target, path)
                os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
            case Again(which):
                if made:
                    os.link(made[which % len(made)], path)
            case Pipe(mode):
                os.mkfifo(path)
                os.chmod(path, mode)
            case Directory(below, mode, mtime):
                os.mkdir(path)
                make(path, below, made)
                os.utime(path, ns=(mtime, mtime))
                os.chmod(path, mode)


def remove(root: Path) -> None:
    for parent, _, _ in os.walk(root):
        os.chmod(parent, 0o700)
    shutil.rmtree(root)


@given(_trees, _trees)
@settings(max_examples=60, deadline=None)
def test_any_tree_arrives_identical(entries: dict[bytes, Node], before: dict[bytes, Node]) -> None:
    """Names, bytes, modes, times, links, hard links; into an empty directory, and again over it.

    Over any other tree, everything sent replaces what was in its way.
    """
    descriptors = open_descriptors()
    top = Path(tempfile.mkdtemp())
    try:
        source, dest, other = top / "source", top / "dest", top / "other"
        for path, content in ((source, entries), (dest, {}), (other, before)):
            path.mkdir()
            make(os.fsencode(path), content, [])
        for _ in range(2):
            round_trip(source, dest)
            assert tree(dest) == tree(source)
        round_trip(source, other)
        assert tree(source).items() <= tree(other).items()
        assert temporary_names(top) == []
    finally:
        remove(top)
    assert open_descriptors() == descriptors


def test_a_big_sparse_file(tmp_path: Path) -> None:
    """Many packets, not a multiple of any buffer, mostly holes."""
    for name in ("source", "dest"):
        (tmp_path / name).mkdir()
    with (tmp_path / "source/big").open("wb") as stream:
        stream.truncate(80 * 1024 * 1024 + 17)
        stream.seek(70 * 1024 * 1024 - 3)
        stream.write(b"island")
    written = round_trip(tmp_path / "source", tmp_path / "dest")
    assert written.content == 80 * 1024 * 1024 + 17
    assert tree(tmp_path / "dest") == tree(tmp_path / "source")


def test_many_small_files(tmp_path: Path) -> None:
    """Several times what may be outstanding, in several directories."""
    for number in range(1000):
        path = tmp_path / "source" / str(number % 7) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (number % 100))
    (tmp_path / "dest").mkdir()
    assert round_trip(tmp_path / "source", tmp_path / "dest").files == 1000
    assert tree(tmp_path / "dest") == tree(tmp_path / "source")
