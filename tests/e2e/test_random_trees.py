"""Random trees and ignore files, through buildx and through this library: the same context, and the same export of it.

Both clients build ``COPY . /`` on the same daemon. Equal tar archives show that the daemon was sent the same entries;
that the exported directory agrees with the archive shows that it was written as it was sent.

``BKS_RANDOM_TREES`` sets the number of trees a daemon (80 by default).
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tree_snapshots import of_tar

import buildkit_session as bk

if TYPE_CHECKING:
    from buildkit_session.testing import Daemon, ReferenceClient

TREES = int(os.environ.get("BKS_RANDOM_TREES", "80"))

# Few and alike, so that patterns hit, and sorted differently by whoever compares whole paths.
NAMES = ["a", "b", "foo", "foo-bar", "foo.txt", "a.log", "A", "x y", "ü", "#h", "[q]", "z" * 60]
MODES = [0o644, 0o755, 0o600, 0o444, 0o000, 0o4755, 0o2755, 0o1777, 0o6711]
LINK_TARGETS = ["a", "../foo", "/b", "nowhere", "../../../../etc", "foo/a", "."]

paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)
nodes = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=40), st.sampled_from(MODES)),
    st.tuples(st.just("dir"), st.just(b""), st.sampled_from([0o755, 0o700, 0o555, 0o1777, 0o2755])),
    st.tuples(st.just("link"), st.sampled_from(LINK_TARGETS).map(str.encode), st.just(0)),
    st.tuples(st.just("hard"), st.binary(max_size=10), st.sampled_from(MODES)),
    st.tuples(st.just("fifo"), st.just(b""), st.just(0o644)),
)
trees = st.dictionaries(paths, st.tuples(nodes, st.integers(-(10**18), 4 * 10**18)), max_size=14)

pieces = st.sampled_from([*NAMES[:8], "*", "**", "?", "*.txt", "f*", "[a-f]*", "[^a]", "foo*", "\\a", "..", "."])
# A pattern that ends in */** is left out: there, buildx prunes directories that it should look into.
patterns = (
    st.lists(pieces, min_size=1, max_size=3).filter(lambda p: p[-2:] != ["*", "**"]).map("/".join)
    | st.sampled_from(["", "# comment", "!", "/a", "a/", " foo ", "./b", "foo**", "**foo", "\\#h"])
)  # fmt: skip
ignores = st.lists(st.tuples(st.sampled_from(["", "", "!"]), patterns).map("".join), max_size=6)


def make_tree(root: Path, tree: dict[str, tuple[tuple[str, bytes, int], int]]) -> None:
    files: list[Path] = []
    made: list[tuple[Path, str, int, int]] = []
    for name, ((kind, data, mode), mtime) in tree.items():
        path = root / name
        taken = [parent for parent in path.parents if os.path.lexists(parent) and not is_real_directory(parent)]
        if taken or os.path.lexists(path):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "dir":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(data.decode())
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "hard" and files:
            path.hardlink_to(files[0])
        else:
            path.write_bytes(data)
            files.append(path)
        made.append((path, kind, mode, mtime))
    for path, kind, mode, mtime in reversed(made):
        if kind != "link":
            path.chmod(mode)
        os.utime(path, ns=(mtime, mtime), follow_symlinks=False)


def is_real_directory(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def entries_of_directory(root: Path) -> dict[str, tuple[object, ...]]:
    """Name, kind, mode without special bits of files, link target or content, time as the archive rounds it."""
    entries: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        found = path.lstat()
        is_directory = stat.S_ISDIR(found.st_mode)
        mode = 0 if path.is_symlink() else stat.S_IMODE(found.st_mode) & (0o7777 if is_directory else 0o777)
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        entries[str(path.relative_to(root))] = (
            stat.S_IFMT(found.st_mode),
            mode,
            content,
            (found.st_mtime_ns + 5 * 10**8) // 10**9,
        )
    return entries


KINDS = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
    tarfile.REGTYPE: stat.S_IFREG,
}


def entries_of_tar(path: Path) -> dict[str, tuple[object, ...]]:
    """The same of an archive; a hard link is the file it links to."""
    entries: dict[str, tuple[object, ...]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.rstrip("/")
            if member.islnk():
                entries[name] = entries[member.linkname]
                continue
            mode = 0 if member.issym() else member.mode & (0o7777 if member.isdir() else 0o777)
            file = archive.extractfile(member) if member.isfile() else None
            content = file.read() if file else member.linkname if member.issym() else b""
            entries[name] = (KINDS[member.type], mode, content, int(member.mtime // 1))
    return entries


def compare(daemon: Daemon, reference: ReferenceClient, root: Path, ignored: list[str]) -> None:
    context = root / "context"
    # Not in the context, where a pattern could hit them.
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (context / ".dockerignore").write_text("\n".join(ignored))
    os.utime(context / ".dockerignore", (0, 0))
    theirs = reference.build(
        *(daemon.address, "-f", root / "Dockerfile", "-o", f"type=tar,dest={root / 'theirs.tar'}", context), check=False
    )
    ours = anyio.run(build_ours, daemon.address, root)
    assert (ours is None) == (theirs.returncode == 0), f"ours: {ours}\ntheirs: {theirs.stderr}"
    if ours is not None:
        return
    assert of_tar(root / "ours.tar") == of_tar(root / "theirs.tar")
    assert entries_of_directory(root / "ours") == entries_of_tar(root / "ours.tar")


async def build_ours(address: str, root: Path) -> bk.SessionError | None:
    async with bk.connect(address) as client:
        for out in (bk.output.tar(root / "ours.tar"), bk.output.local(root / "ours")):
            try:
                await client.build(root / "context", file=root / "Dockerfile", outputs=[out])
            except bk.SessionError as error:
                return error
    return None


@pytest.mark.timeout(7200)
def test_random_trees(daemon: Daemon, reference: ReferenceClient) -> None:
    @settings(
        max_examples=TREES,
        deadline=None,
        database=None,
        derandomize="BKS_RANDOM_TREES" not in os.environ,
        suppress_health_check=[HealthCheck.too_slow],
        # A tree costs a second: the first that differs is shown as it is, small enough to look at.
        phases=[Phase.generate],
    )
    @given(trees, ignores)
    def check(tree: dict[str, tuple[tuple[str, bytes, int], int]], ignored: list[str]) -> None:
        root = Path(tempfile.mkdtemp(prefix="bks-tree-"))
        try:
            (root / "context").mkdir()
            make_tree(root / "context", tree)
            compare(daemon, reference, root, ignored)
        finally:
            shutil.rmtree(root)

    check()
