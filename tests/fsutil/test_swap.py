"""Replacing a directory in one step."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from wires import open_descriptors

from buildkit_session.errors import TransferError
from buildkit_session.fsutil import swap
from buildkit_session.fsutil.swap import Swap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def dest(tmp_path: Path) -> Iterator[Path]:
    """A directory with an old tree, alone in the one above it."""
    path = tmp_path / "above" / "dest"
    (path / "d").mkdir(parents=True)
    (path / "d/old").write_text("old")
    (path / "d").chmod(0o500)
    before = open_descriptors()
    yield path
    assert open_descriptors() == before
    assert os.listdir(path.parent) in ([], ["dest"])


def build(swapping: Swap) -> None:
    descriptor = swapping.open()
    with open(os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor), "w") as file:
        file.write("new")
    os.close(descriptor)


def without_exchange(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(swap, "_exchange", lambda *_: False)


def with_exchange(_: pytest.MonkeyPatch) -> None:
    pass


both_ways = pytest.mark.parametrize("prepare", [with_exchange, without_exchange])


@both_ways
def test_the_new_tree_takes_the_place_of_the_old(
    dest: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Not before it is committed; the directory keeps its permissions, the old tree is gone."""
    prepare(monkeypatch)
    dest.chmod(0o751)
    swapping = Swap(dest)
    build(swapping)
    assert os.listdir(dest) == ["d"]
    swapping.commit()
    assert os.listdir(dest) == ["new"]
    assert stat.S_IMODE(dest.stat().st_mode) == 0o751
    swapping.abandon()
    assert os.listdir(dest) == ["new"]


def test_the_system_exchanges_names(dest: Path) -> None:
    """Where it can: who holds the old directory still has it, whole, at the moment of the exchange."""
    (dest.parent / "other").mkdir()
    try:
        if not swap._exchange(dest, dest.parent / "other"):
            pytest.skip("this system cannot exchange names")
        assert os.listdir(dest.parent / "other") == ["d"]
        assert os.listdir(dest) == []
        assert swap._exchange(dest, dest.parent / "other")
    finally:
        (dest.parent / "other").rmdir()


def test_a_destination_that_is_new(dest: Path) -> None:
    swapping = Swap(dest / "deeper" / "new")
    build(swapping)
    assert not (dest / "deeper/new").exists()
    swapping.commit()
    assert os.listdir(dest / "deeper/new") == ["new"]
    assert os.listdir(dest / "deeper") == ["new"]


def test_several_streams_build_one_tree(dest: Path) -> None:
    swapping = Swap(dest)
    build(swapping)
    os.close(swapping.open())
    swapping.commit()
    assert os.listdir(dest) == ["new"]


def test_abandoned(dest: Path) -> None:
    """Nothing has happened; also twice, and where nothing was begun."""
    swapping = Swap(dest)
    swapping.abandon()
    build(swapping)
    swapping.abandon()
    swapping.abandon()
    assert (dest / "d/old").read_text() == "old"


def test_a_link_is_followed_once(dest: Path) -> None:
    """The directory it leads to is replaced, beside itself; the link stays."""
    link = dest.parent.parent / "link"
    link.symlink_to(dest)
    swapping = Swap(link)
    build(swapping)
    swapping.commit()
    assert link.is_symlink()
    assert os.listdir(dest) == ["new"]


@both_ways
@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails(
    dest: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[pytest.MonkeyPatch], None], failing: int
) -> None:
    """The old tree is as it was, the new one is gone."""
    prepare(monkeypatch)
    real, count = os.rename, 0

    def rename(*names: str) -> None:
        nonlocal count
        count += 1
        if count == failing:
            raise OSError(16, "Device or resource busy")
        real(*names)

    def exchange(*_: Path) -> bool:
        raise OSError(16, "Device or resource busy")

    if prepare is with_exchange:
        monkeypatch.setattr(swap, "_exchange", exchange)
    monkeypatch.setattr(os, "rename", rename)
    swapping = Swap(dest)
    build(swapping)
    with pytest.raises(TransferError, match="busy"):
        swapping.commit()
    assert (dest / "d/old").read_text() == "old"
    assert os.listdir(dest.parent) == ["dest"]


def test_what_has_become_a_file_is_not_replaced(dest: Path) -> None:
    target = dest / "target"
    swapping = Swap(target)
    build(swapping)
    target.write_text("mine")
    with pytest.raises(TransferError, match="Not a directory"):
        swapping.commit()
    assert target.read_text() == "mine"
    assert sorted(os.listdir(dest)) == ["d", "target"]


def test_an_old_tree_that_cannot_be_removed_is_named(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is complete all the same."""
    swapping = Swap(dest)
    build(swapping)

    def refuse(*_args: object) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(swap, "_remove", refuse)
        with pytest.raises(TransferError, match=r"is complete.*\.tmp\."):
            swapping.commit()
    assert os.listdir(dest) == ["new"]
    swap._remove(swapping.aside)


def test_no_place_beside(dest: Path) -> None:
    (dest / "file").touch()
    with pytest.raises(TransferError, match="beside"):
        Swap(dest / "file" / "new").open()
