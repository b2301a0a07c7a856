"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from buildkit_session.cli.atomic_file import require_place, write_whole
from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_file(tmp_path: Path) -> None:
    """It can be read by all, whatever the umask."""
    old = os.umask(0o077)
    try:
        write_whole(tmp_path / "f", b"new")
    finally:
        os.umask(old)
    assert (tmp_path / "f").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o644


def test_who_reads_the_old_file_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with (tmp_path / "f").open("rb") as reader:
        write_whole(tmp_path / "f", b"new")
        assert reader.read() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(InputError, match="no regular file"):
            write_whole(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none/f: No such file.*; name a path"):
        write_whole(tmp_path / "none" / "f", b"new")


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when it is the last step that fails."""
    (tmp_path / "f").write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        write_whole(tmp_path / "f", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_place_is_found_out_about_beforehand(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    for name in ("f", "new"):
        require_place(tmp_path / name)
    for name, message in (("none/f", "No such file"), ("f/f", "Not a directory"), (".", "no regular file")):
        with pytest.raises(InputError, match=message):
            require_place(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
