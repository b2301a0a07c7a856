"""Follow paths (threat ids FP-06, FP-07, FP-13)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tricky_cases import tricky

from buildkit_session.errors import TransferError
from buildkit_session.fsutil import followpaths
from buildkit_session.fsutil.followpaths import drop_nested, follow_paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of links: ``secret`` lies beside it, and must never be found."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "link").symlink_to("stolen")
    tree = tmp_path / "tree"
    for directory in ("d", "d/e", "d1", "d2"):
        (tree / directory).mkdir(parents=True)
    (tree / "d/file").touch()
    links = {
        "l": "d",
        "l2": "l/e",
        "absolute": "/d/file",
        "up": "../../../d",
        "outside": "../secret",
        "to-root": "/",
        "loop1": "loop2",
        "loop2": "./loop1",
        "self": "self/x",
        "gone": "nowhere/at/all",
        "d/back": "../d1",
        "d1/link1": "../d/file",
        "d1/link2": "/d2",
        "d1/plainlink": "../d/e",
    }
    for name, target in links.items():
        (tree / name).symlink_to(target)
    return tree


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    descriptor = os.open(root, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@tricky(23)
@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], []),
        (["d/file"], ["d/file"]),
        (["missing/x"], ["missing/x"]),
        (["d/file/x"], ["d/file/x"]),
        (["x" * 300 + "/y"], ["x" * 300 + "/y"]),
        (["nul\0", "in\0/x"], ["in\0/x", "nul\0"]),
        # A link on the way is wanted itself, and so is what it leads to.
        (["l/file"], ["d/file", "l"]),
        (["l2/deep"], ["d/e/deep", "l", "l2"]),
        (["absolute"], ["absolute", "d/file"]),
        (["d/back/link1"], ["d/back", "d/file", "d1/link1"]),
        (["gone"], ["gone", "nowhere/at/all"]),
        # Loops end.
        (["loop1"], ["loop1", "loop2"]),
        (["self/y"], ["self"]),
        # The root is the upper end of the world, for targets as for paths.
        (["up/file"], ["d/file", "up"]),
        (["../../d/file", "/d/e", "./d//e"], ["d/e", "d/file"]),
        (["outside/link"], ["outside", "secret/link"]),
        # The root itself means everything.
        (["to-root"], None),
        (["d", "."], None),
        (["d", ""], None),
        (["to-root/d1"], ["d1", "to-root"]),
        # Wildcards find links where the last examined component has them, and nothing behind them otherwise.
        (["d1/link*"], ["d/file", "d1/link*", "d2"]),
        (["d1/[^p]*"], ["d/file", "d1/[^p]*", "d2"]),
        (["d*/link1"], ["d*/link1"]),
        (["l?/x"], ["d/e/x", "l", "l?"]),
        (["d1/[", "d1/\\*"], ["d1/[", "d1/\\*"]),
        (["nowhere/*"], ["nowhere/*"]),
        # Sorted, and nothing below something else.
        (["d2/x", "d", "d/e/f", "d2"], ["d", "d2"]),
        (["d*/x"], ["d*/x"]),
        # A link is followed once, for the first path that leads through it.
        (["l/a", "l/b"], ["d/a", "l"]),
        (["l2/a", "l/b"], ["d/e/a", "l", "l2"]),
    ],
)
def test_follow(root_fd: int, paths: list[str], expected: list[str] | None) -> None:
    assert follow_paths(root_fd, paths) == expected


def test_undecodable_names(root: Path, root_fd: int) -> None:
    os.symlink(b"d/\xfe", os.fsencode(root) + b"/\xff")
    assert follow_paths(root_fd, ["\udcff"]) == ["d/\udcfe", "\udcff"]
    assert follow_paths(root_fd, ["\udcff*"]) == ["d/\udcfe", "\udcff*"]


def test_very_deep_paths(root_fd: int) -> None:
    """Depth costs neither the stack nor descriptors."""
    deep = "/".join("x" * 5000)
    assert follow_paths(root_fd, [deep]) == [deep]


def test_a_long_chain_of_links(root: Path, root_fd: int) -> None:
    for number in range(500):
        (root / f"chain{number}").symlink_to(f"chain{number + 1}")
    found = follow_paths(root_fd, ["chain0"])
    assert found is not None
    assert len(found) == 501


def test_gives_all_descriptors_back(root_fd: int) -> None:
    before = os.listdir("/proc/self/fd")
    follow_paths(root_fd, ["l2/x", "d1/*", "loop1", "d/file/x", "missing/x/y", "to-root"])
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("path", ["d/e/x", "d/e/*"])
def test_unreadable_directory_is_named(root_fd: int, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text has the path in the tree, and not its place on the machine."""

    def refuse(name: bytes, **_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(followpaths, "open_directory", refuse)
    with pytest.raises(TransferError, match=r"^cannot \w+ d: Permission denied$") as caught:
        follow_paths(root_fd, [path])
    assert caught.value.path == b"d"


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["a", "a-b", "a/b"], ["a", "a-b", "a/b"]),
        (["a", "a/b", "a/c", "b"], ["a", "b"]),
        (["a", "."], None),
        (["/a", "b"], ["b"]),
    ],
)
def test_drop_nested(patterns: list[str], expected: list[str] | None) -> None:
    """Only what directly follows is compared, as upstream."""
    assert drop_nested(patterns) == expected
