"""The directory cache and the writer by themselves; what they do in a transfer is in test_receiver."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from tricky_cases import tricky
from wires import ANY_TIME, directory, file, hard_link, open_descriptors, temporary_names

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.directories import MAX_OPEN, Directories
from buildkit_session.fsutil.disk import DirectoryWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root_fd(tmp_path: Path) -> Iterator[int]:
    before = open_descriptors()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)
    assert open_descriptors() == before


def test_few_directories_stay_open(tmp_path: Path, root_fd: int) -> None:
    """However many are used and however deep they are; each can be reached again."""
    paths = [b"/".join([b"d"] * depth) for depth in range(1, 200)]
    os.makedirs(os.fsencode(tmp_path) + b"/" + paths[-1])
    directories = Directories(root_fd)
    before = len(open_descriptors())
    for path in [*paths, *reversed(paths), paths[-1], paths[0]]:
        found = os.fstat(directories.descriptor(path))
        assert os.path.samestat(found, os.stat(os.fsencode(tmp_path) + b"/" + path))
        assert len(open_descriptors()) - before <= MAX_OPEN
    directories.close()


@pytest.mark.parametrize("path", [b"link", b"d/link", b"d/link/e", b"file", b"none", b"d/none/x"])
def test_only_directories_are_descended(tmp_path: Path, root_fd: int, path: bytes) -> None:
    """A link is none, wherever it leads; nothing stays open after a failure."""
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "d/link").symlink_to(tmp_path / "d")
    (tmp_path / "file").touch()
    directories = Directories(root_fd)
    with pytest.raises(OSError, match=r"Not a directory|No such file|symbolic links"):
        directories.descriptor(path)
    directories.close()


def test_removing_follows_no_link(tmp_path: Path, root_fd: int) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").touch()
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/out").symlink_to(tmp_path / "outside")
    (tmp_path / "d/out").symlink_to(tmp_path / "outside/precious")
    (tmp_path / "d/e").chmod(0o500)
    directories = Directories(root_fd)
    directories.remove_tree(b"d")
    directories.close()
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert (tmp_path / "outside/precious").exists()


def test_a_link_is_no_tree_to_remove(tmp_path: Path, root_fd: int) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").touch()
    (tmp_path / "d").symlink_to("outside")
    directories = Directories(root_fd)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        directories.remove_tree(b"d")
    directories.close()
    assert (tmp_path / "outside/precious").exists()


def test_an_incomplete_file_is_private_and_not_in_its_place(tmp_path: Path, root_fd: int) -> None:
    """Its old content is there until the new one is complete."""
    (tmp_path / "f").write_bytes(b"old")
    writer = DirectoryWriter(root_fd)
    entry = file(b"f", b"new", 0o666).stat
    writer.write(entry, b"ne")
    (temporary,) = temporary_names(tmp_path)
    assert stat.S_IMODE(os.stat(temporary).st_mode) == 0o600
    assert (tmp_path / "f").read_bytes() == b"old"
    writer.write(entry, b"w")
    writer.complete(entry)
    writer.close()
    assert (tmp_path / "f").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o666


def test_closing_removes_what_is_incomplete_and_keeps_the_rest(tmp_path: Path, root_fd: int) -> None:
    writer = DirectoryWriter(root_fd)
    writer.add(directory(b"d").stat)
    writer.complete(file(b"d/done", b"").stat)
    writer.write(file(b"d/half", b"half").stat, b"ha")
    writer.write(file(b"half", b"half").stat, b"ha")
    writer.close()
    writer.close()
    assert [names for _, _, names in os.walk(tmp_path)] == [[], ["done"]]


@tricky(35)
def test_directories_get_their_mode_at_the_end(tmp_path: Path, root_fd: int) -> None:
    """Until then they can be written to; what was written does not change their time."""
    writer = DirectoryWriter(root_fd)
    writer.add(directory(b"d", 0o500).stat)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700
    writer.complete(file(b"d/f", b"").stat)
    writer.add(hard_link(b"d/g", b"d/f").stat)
    assert not (tmp_path / "d/g").exists()
    writer.finish()
    writer.close()
    status = (tmp_path / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o500, ANY_TIME)
    assert (tmp_path / "d/g").stat().st_nlink == 2


def test_a_write_names_its_entry(tmp_path: Path, root_fd: int) -> None:
    """By the path in the transfer; where that is on this machine does not concern a daemon (GR-14)."""
    writer = DirectoryWriter(root_fd)
    with pytest.raises(TransferError) as caught:
        writer.write(file(b"none/f").stat, b"x")
    writer.close()
    assert caught.value.path == b"none/f"
    assert str(caught.value) == "cannot write none/f: No such file or directory"
