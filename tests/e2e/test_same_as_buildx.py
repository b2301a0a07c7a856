"""The same Dockerfile through ``docker buildx`` and through this library, on a real daemon: the same result."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from tree_snapshots import of_directory, of_tar
from tricky_cases import tricky

import buildkit_session as bk

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

pytestmark = pytest.mark.anyio

DOCKERFILE = """\
FROM scratch AS tools
COPY busybox /bin/busybox

FROM tools AS made
RUN ["/bin/busybox", "sh", "-c", "\\
  mkdir -p /made/deep/er /made/shut && echo one > /made/one && : > /made/empty && \\
  ln -s deep/er /made/link && ln -s /nowhere /made/dangling && ln /made/one /made/same && \\
  echo x > /made/shut/inside && chmod 555 /made/shut && echo y > /made/run && chmod 750 /made/run && \\
  chmod 400 /made/empty && mkfifo /made/pipe && mkdir -m 1777 /made/tmp"]

FROM scratch AS files
COPY . /ctx
COPY --from=made /made /made
"""


@pytest.fixture(scope="session")
def rich_context(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Path:
    """1,000 files in nested directories, links of both kinds, odd modes and times, and a RUN step in two stages."""
    root = tmp_path_factory.mktemp("rich")
    shutil.copy(busybox, root / "busybox")
    (root / "Dockerfile").write_text(DOCKERFILE)
    for number in range(1000):
        path = root / f"d{number % 10}" / f"e{number % 7}" / f"file-{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * (number % 50))
        path.chmod((0o644, 0o600, 0o755, 0o444, 0o640)[number % 5])
        os.utime(path, ns=(0, 1_500_000_000_123_456_789 + number * 1_000_003))
    (root / "d0" / "link").symlink_to("e0/file-0.txt")
    (root / "d0" / "dangling").symlink_to("/does/not/exist")
    (root / "d0" / "dir-link").symlink_to("e1")
    (root / "hard").hardlink_to(root / "d1" / "e1" / "file-1.txt")
    (root / "empty-dir").mkdir()
    (root / "d0-sibling").write_text("sorts between d0 and d0/... in plain string order")
    (root / "d0.txt").write_text("dot")
    (root / "big.bin").write_bytes(bytes(range(256)) * 20_000)
    (root / "name with  spaces ü").write_text("unusual")
    (root / "old").write_text("before the epoch")
    os.utime(root / "old", ns=(0, -1_000_000_001))
    (root / "shut").mkdir(mode=0o700)
    (root / "shut" / "file").write_text("in a read-only directory")
    (root / "shut").chmod(0o555)
    return root


async def build(daemon: Daemon, context: Path, output: str, **arguments: object) -> None:
    async with bk.connect(daemon.address) as client:
        await client.build(context, outputs=[output], network="none", **arguments)  # type: ignore[arg-type]


@tricky(14, 15, 16, 18)
async def test_local(daemon: Daemon, reference: ReferenceClient, rich_context: Path, tmp_path: Path) -> None:
    """RUN, two stages, 1,000 files, links, odd modes and times: identical trees."""
    reference.build(daemon.address, "-o", f"type=local,dest={tmp_path / 'theirs'}", rich_context)
    await build(daemon, rich_context, f"type=local,dest={tmp_path / 'ours'}")
    theirs = of_directory(tmp_path / "theirs")
    assert len(theirs) > 1000
    assert of_directory(tmp_path / "ours") == theirs


async def test_tar(daemon: Daemon, reference: ReferenceClient, rich_context: Path, tmp_path: Path) -> None:
    """The same archive, member by member."""
    reference.build(daemon.address, "-o", f"type=tar,dest={tmp_path / 'theirs.tar'}", rich_context)
    await build(daemon, rich_context, f"type=tar,dest={tmp_path / 'ours.tar'}")
    theirs = of_tar(tmp_path / "theirs.tar")
    assert len(theirs) > 1000
    assert of_tar(tmp_path / "ours.tar") == theirs


async def test_image(daemon: Daemon, reference: ReferenceClient, rich_context: Path, tmp_path: Path) -> None:
    """What we send is what buildx sends: with our upload in its cache, the image has the same id."""
    reference.build(daemon.address, "--iidfile", tmp_path / "theirs", rich_context)
    async with bk.connect(daemon.address) as client:
        ours = await client.build(rich_context, network="none")
    assert ours.image_id == (tmp_path / "theirs").read_text()


IGNORES = {
    "plain": "d1\n*.bin\n",
    "exceptions": "*\n!d2\n!d3/e3\n!busybox\n!Dockerfile\nd2/e2\n",
    "double star": "**/file-1*\n!**/file-11.txt\nd?/e[0-3]\n",
    "odd": "\ufeff# comment\r\n/d4/ \r\n  d5/**\r\n\\#none\n./d6/../d7\n",
    "everything": "**\n!hard\n",
}


@tricky(22)
@pytest.mark.parametrize("ignore", IGNORES.values(), ids=IGNORES)
async def test_dockerignore(
    daemon: Daemon, reference: ReferenceClient, rich_context: Path, tmp_path: Path, ignore: str
) -> None:
    """The same files are left out."""
    context = tmp_path / "context"
    shutil.copytree(rich_context, context, symlinks=True)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (context / ".dockerignore").write_bytes(ignore.encode())
    reference.build(daemon.address, "-o", f"type=local,dest={tmp_path / 'theirs'}", context)
    await build(daemon, context, f"type=local,dest={tmp_path / 'ours'}")
    assert of_directory(tmp_path / "ours") == of_directory(tmp_path / "theirs")


@tricky(23)
async def test_copy_sources(daemon: Daemon, reference: ReferenceClient, rich_context: Path, tmp_path: Path) -> None:
    """COPY of single files, through links and by wildcard, which the daemon asks for as follow paths."""
    dockerfile = tmp_path / "Only.Dockerfile"
    dockerfile.write_text(
        "FROM scratch\nCOPY d0/link /link\nCOPY d0/dir-link /dir\nCOPY d1/e*/file-1*.txt /some/\n"
        'COPY ["name with  spaces ü", "/n"]\nCOPY d0-sibling d0.txt /\n'
    )
    reference.build(daemon.address, "-f", dockerfile, "-o", f"type=local,dest={tmp_path / 'theirs'}", rich_context)
    await build(daemon, rich_context, f"type=local,dest={tmp_path / 'ours'}", file=dockerfile)
    assert len(of_directory(tmp_path / "theirs")) > 10
    assert of_directory(tmp_path / "ours") == of_directory(tmp_path / "theirs")


async def test_second_build_merges(daemon: Daemon, reference: ReferenceClient, busybox: Path, tmp_path: Path) -> None:
    """An existing destination is merged into; what stands in the way of an entry is replaced."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY in /\n")
    (context / "in" / "dir").mkdir(parents=True)
    (context / "in" / "dir" / "file").write_text("new")
    (context / "in" / "was-dir").write_text("now a file")
    (context / "in" / "was-file").mkdir()
    (context / "in" / "was-link").write_text("now a file")
    (context / "in" / "link").symlink_to("dir/file")
    for name in ("ours", "theirs"):
        out = tmp_path / name
        (out / "dir").mkdir(parents=True)
        (out / "dir" / "kept").write_text("kept")
        (out / "was-dir" / "sub").mkdir(parents=True)
        (out / "was-file").write_text("a file")
        (out / "was-link").symlink_to("dir/kept")
        (out / "link").write_text("now a link")
    reference.build(daemon.address, "-o", f"type=local,dest={tmp_path / 'theirs'}", context)
    await build(daemon, context, f"type=local,dest={tmp_path / 'ours'}")

    def without_times(root: Path) -> dict[str, tuple[object, ...]]:
        return {name: entry[:3] + entry[4:] for name, entry in of_directory(root).items()}

    assert without_times(tmp_path / "ours") == without_times(tmp_path / "theirs")
    assert (tmp_path / "ours" / "dir" / "kept").read_text() == "kept"
