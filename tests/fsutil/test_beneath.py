"""Opening files of a shared directory (threat ids DS-07, DS-08, DS-09, DS-11)."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.beneath import FileOpener, open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "d/e").mkdir(parents=True)
    (tree / "top").write_text("top")
    (tree / "d/file").write_text("file")
    (tree / "d/e/deep").write_text("deep")
    (tmp_path / "secret").write_text("secret")
    return tree


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    descriptor = os.open(root, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def content(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("path", [b"top", b"d/file", b"d/e/deep"])
def test_opens_a_file(root_fd: int, path: bytes) -> None:
    assert content(open_file(root_fd, path)) == path.rpartition(b"/")[2]


def test_opens_neighbours_and_others_in_any_order(root_fd: int) -> None:
    opener = FileOpener(root_fd)
    paths = [b"d/file", b"d/file", b"top", b"d/e/deep", b"d/file", b"top", b"top"]
    read = [content(opener.open(path)) for path in paths]
    opener.close()
    assert read == [path.rpartition(b"/")[2] for path in paths]


def test_opens_what_is_not_utf8(root: Path, root_fd: int) -> None:
    name = b"\xff\n\\"
    with open(os.path.join(os.fsencode(root), name), "wb") as file:
        file.write(b"x")
    assert content(open_file(root_fd, name)) == b"x"


def refused(root_fd: int, path: bytes, reason: str) -> None:
    with pytest.raises(TransferError, match=reason) as caught:
        open_file(root_fd, path)
    assert caught.value.path == path


def test_vanished_file_is_named(root: Path, root_fd: int) -> None:
    (root / "d/file").unlink()
    refused(root_fd, b"d/file", "^cannot read d/file: it has vanished$")


def test_file_turned_into_a_link_gives_no_outside_byte(root: Path, root_fd: int) -> None:
    """DS-07."""
    (root / "d/file").unlink()
    (root / "d/file").symlink_to("../../secret")
    refused(root_fd, b"d/file", "it is no longer a regular file")


def test_directory_turned_into_a_link_is_not_passed(root: Path, root_fd: int) -> None:
    (root / "d").rename(root / "moved")
    (root / "d").symlink_to("moved")
    refused(root_fd, b"d/file", "it has vanished")


def test_special_files_are_never_opened(root: Path, root_fd: int) -> None:
    """DS-11: a FIFO would block and a directory is no file; neither is waited for."""
    os.mkfifo(root / "fifo")
    refused(root_fd, b"fifo", "no longer a regular file")
    refused(root_fd, b"d", "no longer a regular file")


def test_file_swapped_for_a_fifo_at_the_last_moment(root: Path, root_fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at is looked at again once it is open."""
    real_open = os.open

    def swap_then_open(path: bytes, flags: int, *, dir_fd: int) -> int:
        (root / "top").unlink()
        os.mkfifo(root / "top")
        return real_open(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swap_then_open)
    refused(root_fd, b"top", "no longer a regular file")


def test_socket_is_an_empty_file(root: Path, root_fd: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    assert content(open_file(root_fd, b"socket")) == b""


@pytest.mark.parametrize(
    "path", [b"", b".", b"..", b"../secret", b"d/../top", b"/top", b"d//file", b"d/./file", b"x\0"]
)
def test_unclean_paths_are_refused(root_fd: int, path: bytes) -> None:
    refused(root_fd, path, "not a clean relative path")


def test_gives_all_descriptors_back(root_fd: int) -> None:
    before = os.listdir("/proc/self/fd")
    opener = FileOpener(root_fd)
    os.close(opener.open(b"d/e/deep"))
    for path in (b"d/e/none", b"d/none/x", b"d/e"):
        with pytest.raises(TransferError):
            opener.open(path)
    opener.close()
    opener.close()
    assert os.listdir("/proc/self/fd") == before


def test_opener_can_be_used_after_a_failure_and_after_close(root_fd: int) -> None:
    opener = FileOpener(root_fd)
    with pytest.raises(TransferError):
        opener.open(b"none/x")
    assert content(opener.open(b"d/file")) == b"file"
    opener.close()
    assert content(opener.open(b"d/file")) == b"file"
    opener.close()


def test_a_listed_file_opens_with_its_size(root: Path, root_fd: int) -> None:
    """A socket, which is listed as a file without content, too."""
    opener = FileOpener(root_fd)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    for path, expected in ((b"d/file", b"file"), (b"top", b"top"), (b"socket", b"")):
        descriptor, size = opener.open_listed(path)
        assert size == len(expected)
        assert content(descriptor) == expected
    opener.close()


def becomes_nothing(path: Path) -> None:
    path.unlink()


def becomes_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../secret")


def becomes_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def becomes_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [becomes_nothing, becomes_link, becomes_fifo, becomes_directory])
def test_a_listed_file_that_has_become_something_else_is_refused(
    root: Path, root_fd: int, change: Callable[[Path], None]
) -> None:
    """DS-07, DS-11: also what could be opened, and nothing stays open."""
    change(root / "d/file")
    before = os.listdir("/proc/self/fd")
    opener = FileOpener(root_fd)
    with pytest.raises(TransferError, match=r"cannot read d/file: it (has vanished|is no longer a regular file)"):
        opener.open_listed(b"d/file")
    opener.close()
    assert os.listdir("/proc/self/fd") == before


def test_the_directory_used_last_lends_nothing_to_unclean_paths(root_fd: int) -> None:
    """Its path need not be looked at again, but only its own."""
    opener = FileOpener(root_fd)
    os.close(opener.open(b"d/file"))
    for path in (b"d/..", b"d/", b"d//file", b"d/./file", b"/file", b"/d/file", b"d/e/../file", b"d/x\0"):
        with pytest.raises(TransferError, match="not a clean relative path"):
            opener.open(path)
    opener.close()
