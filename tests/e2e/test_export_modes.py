"""The options of ``output.local`` on real daemons; with ``permissions=upstream`` the result is buildx's."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from tree_snapshots import of_directory

import buildkit_session as bk

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

pytestmark = pytest.mark.anyio

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")

RUN = 'RUN ["/bin/busybox", "sh", "-c", "{}"]\n'

SPECIAL = RUN.format(
    "mkdir -p /made && mkdir -m 3775 /made/dir && cd /made && echo x > suid && chmod 4755 suid && ln suid same && "
    "echo y > sgid && chmod 2750 sgid && echo z > sticky && chmod 1644 sticky && mkfifo -m 620 pipe && ln -s suid link"
)
DEVICES = RUN.format("cd /made && mknod -m 666 null c 1 3 && mknod -m 640 loop b 7 300")


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    shutil.copy(busybox, root / "busybox")
    return root


def write_special(context: Path, *, devices: bool) -> None:
    (context / "attributes/dir").mkdir(parents=True)
    (context / "attributes/file").write_text("has attributes")
    for path in (context / "attributes/dir", context / "attributes/file"):
        os.setxattr(path, "user.color", b"blue\0")
    # In one stage, as a COPY between two of them changes devices: into files on 20.10, block into character on 28.5.
    steps = SPECIAL + (DEVICES if devices else "")
    text = f"FROM scratch\nCOPY busybox /bin/busybox\n{steps}COPY attributes /attributes\n"
    (context / "Dockerfile").write_text(text)


def all_of(root: Path) -> dict[str, tuple[object, ...]]:
    """Owners, device numbers and attributes as well."""
    entries = of_directory(root)
    for name, entry in entries.items():
        found = (root / name).lstat()
        device = found.st_rdev if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode) else 0
        keys = os.listxattr(root / name, follow_symlinks=False)
        attributes = [(key, os.getxattr(root / name, key, follow_symlinks=False)) for key in sorted(keys)]
        entries[name] = (*entry, found.st_uid, found.st_gid, device, attributes)
    return entries


async def build(daemon: Daemon, context: Path, *outputs: bk.output.Output | str) -> bk.BuildResult:
    async with bk.connect(daemon.address) as client:
        return await client.build(context, outputs=outputs, network="none")


@needs_root
async def test_upstream_is_what_buildx_does(
    daemon: Daemon, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """Special bits, hard links, attributes, pipes, devices, owners: identical trees."""
    write_special(context, devices=True)
    reference.build(daemon.address, "-o", f"type=local,dest={tmp_path / 'theirs'}", context)
    result = await build(daemon, context, f"type=local,dest={tmp_path / 'ours'},permissions=upstream")
    theirs = all_of(tmp_path / "theirs")
    assert {stat.S_IMODE((tmp_path / "theirs/made" / name).lstat().st_mode) for name in ("suid", "sgid", "sticky")} == {
        0o4755,
        0o2750,
        0o1644,
    }
    assert theirs["made/loop"][-2] == os.makedev(7, 300)
    assert theirs["attributes/file"][-1] == [("user.color", b"blue\0")]
    assert all_of(tmp_path / "ours") == theirs
    assert (result.exports[0].dropped_bits, result.exports[0].dropped_xattrs) == (0, 0)


async def test_safe_says_what_it_dropped(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    write_special(context, devices=False)
    result = await build(daemon, context, bk.output.local(tmp_path / "out", include=["made", "attributes"]))
    (exported,) = result.exports
    assert exported.dest == tmp_path / "out"
    assert (exported.dropped_bits, exported.dropped_xattrs) == (3, 2)
    assert (exported.files, exported.directories, exported.links) == (6, 4, 1)
    assert exported.bytes == len("x\ny\nz\nhas attributes")
    assert stat.S_IMODE((tmp_path / "out/made/suid").stat().st_mode) == 0o755


async def test_a_device_fails_the_build_with_advice(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """And the advice helps."""
    write_special(context, devices=True)
    with pytest.raises(bk.TransferError, match="permissions=upstream creates it, exclude leaves it out"):
        await build(daemon, context, bk.output.local(tmp_path / "out"))
    await build(daemon, context, bk.output.local(tmp_path / "out", exclude=["made/loop", "made/null"]))
    assert (tmp_path / "out/made/suid").exists()


def write_files(context: Path, *names: str) -> None:
    shutil.rmtree(context / "files", ignore_errors=True)
    for name in names:
        (context / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (context / "files" / name).write_text(name)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY files /\n")


async def test_mirror(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """A directory that is exported to again and again holds the last result."""
    out = tmp_path / "out"
    write_files(context, "a/one", "a/two", "b/three", "c")
    await build(daemon, context, f"type=local,dest={out}")
    (out / "mine").mkdir()
    (out / "mine/link").symlink_to(context)
    write_files(context, "a/two", "c/was-file")
    result = await build(daemon, context, f"type=local,dest={out},mode=mirror")
    assert sorted(of_directory(out)) == ["a", "a/two", "c", "c/was-file"]
    assert result.exports[0].removed == 5
    assert (context / "Dockerfile").exists()


@pytest.mark.parametrize("mode", ["mirror", "swap"])
async def test_a_failed_build_leaves_the_old_tree(daemon: Daemon, context: Path, tmp_path: Path, mode: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").write_text("old")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY busybox /bin/busybox\n" + RUN.format("exit 3"))
    with pytest.raises(bk.BuildError):
        await build(daemon, context, f"type=local,dest={tmp_path / 'out'},mode={mode}")
    assert sorted(os.listdir(tmp_path)) == ["context", "out"]
    assert os.listdir(tmp_path / "out") == ["old"]


async def test_swap(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """Until the result is asked for the old tree is there, whole; then the new one is."""
    out = tmp_path / "out"
    out.mkdir(mode=0o755)
    (out / "old").write_text("old")
    write_files(context, "a/one", "two")
    async with bk.connect(daemon.address) as client:
        options = bk.output.local(out, mode="swap")
        async with client.start(context, outputs=[options], network="none") as building:
            async for _ in building:
                assert os.listdir(out) == ["old"]
            await building.result()
    assert sorted(of_directory(out)) == ["a", "a/one", "two"]
    assert sorted(os.listdir(tmp_path)) == ["context", "out"]


async def test_a_cancelled_swap_leaves_the_old_tree(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """After the export, before the result was asked for: nothing is left beside it."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    write_files(context, "a")
    options = bk.output.local(out, mode="swap")
    async with bk.connect(daemon.address) as client:
        with anyio.CancelScope() as scope:
            async with client.start(context, outputs=[options]) as building:
                async for _ in building:
                    pass
                scope.cancel()
                await building.result()
    assert os.listdir(out) == ["old"]
    assert sorted(os.listdir(tmp_path)) == ["context", "out"]


async def test_incremental(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """Only what has changed is fetched; the result is the same."""
    out = tmp_path / "out"
    write_files(context, *(f"d{number % 3}/f{number}" for number in range(30)))
    (context / "files/hard").hardlink_to(context / "files/d0/f0")
    first = await build(daemon, context, f"type=local,dest={out},incremental=true")
    assert (first.exports[0].unchanged, first.exports[0].files) == (0, 31)
    before = of_directory(out)
    same = await build(daemon, context, f"type=local,dest={out},incremental=true")
    assert (same.exports[0].unchanged, same.exports[0].bytes) == (30, 0)
    assert of_directory(out) == before
    (context / "files/d1/f1").write_text("changed")
    os.utime(context / "files/d2/f2", ns=(0, 12345))
    (out / "d0/f3").unlink()
    changed = await build(daemon, context, f"type=local,dest={out},incremental=true")
    assert changed.exports[0].unchanged == 27
    await build(daemon, context, f"type=local,dest={tmp_path / 'whole'}")
    assert of_directory(out) == of_directory(tmp_path / "whole")


async def test_patterns(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """A hard link whose first name is left out has its content all the same."""
    write_files(context, "a/first", "b/x.log", "b/y", "c/z")
    (context / "files/b/second").hardlink_to(context / "files/a/first")
    (context / "Dockerfile").write_text(
        "FROM scratch AS made\nCOPY busybox /bin/busybox\nCOPY files /files\n"
        + RUN.format("ln -f /files/a/first /files/b/second && ln /files/a/first /files/b/third")
        + "FROM made\n"
    )
    text = f"type=local,dest={tmp_path / 'out'},include=files/b,include=files/c,exclude=**/*.log"
    await build(daemon, context, text)
    assert sorted(of_directory(tmp_path / "out")) == [
        *("files", "files/b", "files/b/second", "files/b/third", "files/b/y", "files/c", "files/c/z")
    ]
    assert (tmp_path / "out/files/b/second").read_text() == "a/first"
    assert (tmp_path / "out/files/b/third").samefile(tmp_path / "out/files/b/second")


async def test_a_listing(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """What an export would write, and nothing written."""
    write_special(context, devices=True)
    result = await build(daemon, context, bk.output.listing(include=["made"]))
    (exported,) = result.exports
    assert exported.dest is None
    assert [(entry.path, entry.kind, oct(entry.mode), entry.linkname) for entry in exported.entries] == [
        ("made", "directory", "0o755", ""),
        ("made/dir", "directory", "0o3775", ""),
        ("made/link", "symlink", "0o777", "suid"),
        ("made/loop", "block device", "0o640", ""),
        ("made/null", "character device", "0o666", ""),
        ("made/pipe", "fifo", "0o620", ""),
        ("made/same", "file", "0o4755", ""),
        ("made/sgid", "file", "0o2750", ""),
        ("made/sticky", "file", "0o1644", ""),
        ("made/suid", "file", "0o4755", "made/same"),
    ]
    assert os.listdir(tmp_path) == ["context"]


def run(daemon: Daemon, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "buildkit_session", "-H", daemon.address, "build", "--network=none"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)


async def test_the_command_line_says_what_was_dropped(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """On standard error, and not if it shall be quiet."""
    write_special(context, devices=False)
    notice = "3 files lost set-user-id, set-group-id or sticky bits and 2 entries lost extended attributes"
    finished = await anyio.to_thread.run_sync(run, daemon, "-o", tmp_path / "out", context)
    assert f"{tmp_path / 'out'}: {notice}; permissions=upstream keeps them\n" in finished.stderr
    assert finished.stdout == ""
    finished = await anyio.to_thread.run_sync(run, daemon, "-q", "-o", tmp_path / "out", context)
    assert finished.stderr == ""
    upstream = f"type=local,dest={tmp_path / 'out'},permissions=upstream"
    finished = await anyio.to_thread.run_sync(run, daemon, "-o", upstream, context)
    assert "permissions=upstream keeps them" not in finished.stderr


async def test_the_command_line_lists(daemon: Daemon, context: Path) -> None:
    """One line an entry, on standard output, and nothing else there."""
    write_files(context, "a/one")
    (context / "files/link\n").symlink_to("a/one")
    os.utime(context / "files/a/one", ns=(0, 10**18))
    finished = await anyio.to_thread.run_sync(run, daemon, "-q", "-o", "type=local,list-only=true", context)
    directory, file, link = finished.stdout.splitlines()
    assert directory.startswith("drwxr-xr-x 0/0 ")
    assert file == "-rw-r--r-- 0/0          5 2001-09-09T01:46:40Z a/one"
    assert link.endswith(r" link\x0a -> a/one")
