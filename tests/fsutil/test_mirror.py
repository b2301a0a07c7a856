"""Removing what an export did not list."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from wires import ANY_TIME, open_descriptors, tree

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.mirror import remove_unlisted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "root"
    path.mkdir()
    before = open_descriptors()
    yield path
    assert open_descriptors() == before


def sweep(root: Path, *listed: bytes, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> int:
    root_fd = os.open(root, os.O_RDONLY)
    try:
        return remove_unlisted(root_fd, set(listed), include=include, exclude=exclude)
    finally:
        os.close(root_fd)


def fill(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def names(root: Path) -> set[str]:
    return {os.fsdecode(path) for path in tree(root)}


def test_what_is_listed_stays_and_nothing_else(root: Path) -> None:
    fill(root, "a/keep", "a/gone", "b/c/gone", "top", "gone")
    os.mkfifo(root / "a/pipe")
    assert sweep(root, b"a", b"a/keep", b"top") == 6
    assert names(root) == {"a", "a/keep", "top"}


def test_an_empty_result_empties_the_directory(root: Path) -> None:
    """The directory itself is not part of the result."""
    fill(root, "a/b/c")
    assert sweep(root) == 3
    assert root.is_dir()
    assert names(root) == set()


def test_no_link_is_followed(root: Path, tmp_path: Path) -> None:
    """DR-29: an unlisted link is removed, a listed one is not entered."""
    fill(tmp_path / "outside", "precious")
    for name in ("kept", "gone", "d/gone"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).symlink_to(tmp_path / "outside")
    (root / "d").chmod(0o500)
    assert sweep(root, b"kept") == 3
    assert names(root) == {"kept"}
    assert (tmp_path / "outside/precious").exists()


def test_kept_directories_keep_modes_and_times(root: Path) -> None:
    """Read-only ones too, which must be written to in between."""
    fill(root, "d/e/gone", "d/e/keep", "d/gone")
    for path in ("d/e", "d"):
        os.utime(root / path, ns=(1, ANY_TIME))
        (root / path).chmod(0o555)
    assert sweep(root, b"d", b"d/e", b"d/e/keep") == 2
    for path in ("d/e", "d"):
        found = (root / path).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o555, ANY_TIME)


def test_what_patterns_leave_out_stays(root: Path) -> None:
    """It is not the export's business; neither are the directories that hold it."""
    fill(root, "gone/log/x.log", "gone/x", "a/x.log", "a/x", "listed/x", "other")
    exclude = ("**/*.log", "other")
    sweep(root, b"listed", exclude=exclude)
    assert names(root) == {"gone", "gone/log", "gone/log/x.log", "a", "a/x.log", "other", "listed"}
    sweep(root, include=("a/*",))
    assert names(root) == {"gone", "gone/log", "gone/log/x.log", "a", "other", "listed"}


def test_a_deep_tree(root: Path) -> None:
    """No recursion, and few descriptors."""
    for depth in range(1, 1901):
        os.mkdir(os.fsencode(root) + b"/d" * depth)
    assert sweep(root, b"d") == 1899
    assert names(root) == {"d"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root is not bound by permissions")
def test_what_cannot_be_removed_is_named(root: Path) -> None:
    fill(root, "d/gone")
    (root / "d").chmod(0)
    with pytest.raises(TransferError, match="from d") as caught:
        sweep(root)
    (root / "d").chmod(0o700)
    assert caught.value.path == b"d"


def test_a_busy_entry_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a file system is mounted; it names the directory."""
    fill(root, "d/gone")

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr("buildkit_session.fsutil.mirror.os.unlink", refuse)
        with pytest.raises(TransferError, match=r"from d: Device or resource busy"):
            sweep(root, b"d")
