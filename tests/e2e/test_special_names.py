"""Names in a context that not every receiver takes: the reserved one, and those that are not UTF-8.

Of the latter: Docker 20.10 takes them, newer ones do not, and nobody says so beforehand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from fake_engine import WAYS, FakeEngine, fake_engine
from tree_snapshots import of_directory
from tricky_cases import tricky

import buildkit_session as bk

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_session.testing import Daemon, ReferenceClient

pytestmark = pytest.mark.anyio

ODD = b"odd-\xff\xe4"


@pytest.fixture
def context(tmp_path: Path) -> bytes:
    root = tmp_path / "context"
    (root / "in").mkdir(parents=True)
    (root / "Dockerfile").write_text("FROM scratch\nCOPY in /\n")
    (root / "in/plain").write_text("plain")
    return os.fsencode(root)


def takes_any_bytes(daemon: Daemon) -> bool:
    return daemon.version.startswith("20.10")


async def build(daemon: Daemon, context: bytes, out: Path) -> None:
    async with bk.connect(daemon.address) as client:
        await client.build(os.fsdecode(context), outputs=[bk.output.local(out)])


def ignore(context: bytes, line: str) -> None:
    Path(os.fsdecode(context), ".dockerignore").write_text(f"{line}\n")


def make_file(folder: bytes) -> None:
    with open(folder + b"/" + ODD, "wb"):
        pass


def make_surrogate(folder: bytes) -> None:
    with open(folder + b"/\xed\xa0\x80", "wb"):
        pass


def make_folder(folder: bytes) -> None:
    os.mkdir(folder + b"/" + ODD)


def make_named_link(folder: bytes) -> None:
    os.symlink(b"plain", folder + b"/" + ODD)


def make_target(folder: bytes) -> None:
    os.symlink(ODD, folder + b"/link")


REFUSED = [
    (make_file, rb"one is in/odd-\xff\xe4; rename it"),
    (make_surrogate, rb"one is in/\xed\xa0\x80; rename it"),
    (make_folder, rb"one is in/odd-\xff\xe4; rename it"),
    (make_named_link, rb"one is in/odd-\xff\xe4; rename it"),
    (make_target, rb"the symbolic link in/link leads to odd-\xff\xe4; change it"),
]


@tricky(36)
@pytest.mark.parametrize(("make", "text"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
async def test_an_odd_name_is_taken_or_named(
    daemon: Daemon, context: bytes, tmp_path: Path, make: Callable[[bytes], None], text: bytes
) -> None:
    """The daemon that would take it is not kept from it; of the other's refusal the user learns the name."""
    folder = context + b"/in"
    make(folder)
    if takes_any_bytes(daemon):
        await build(daemon, context, tmp_path / "out")
        out = os.fsencode(tmp_path / "out")
        assert sorted(os.listdir(out)) == sorted(os.listdir(folder))
        assert [os.readlink(e) for e in os.scandir(out) if e.is_symlink()] == [
            os.readlink(e) for e in os.scandir(folder) if e.is_symlink()
        ]
    else:
        with pytest.raises(bk.TransferError) as caught:
            await build(daemon, context, tmp_path / "out")
        assert text.decode() in str(caught.value)
        assert "exclude it in .dockerignore with a ? for each odd byte" in str(caught.value)
        assert caught.value.path is not None
        assert caught.value.path in (b"in/" + name for name in os.listdir(folder))
        assert isinstance(caught.value.__cause__, bk.BuildError)


@tricky(36)
async def test_an_ignored_odd_name_harms_nobody(daemon: Daemon, context: bytes, tmp_path: Path) -> None:
    """What the error advises helps."""
    make_file(context + b"/in")
    ignore(context, "in/odd-??")
    await build(daemon, context, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["plain"]


COMPLAINT = "grpc: failed to unmarshal the received message: string field contains invalid UTF-8"


@tricky(36)
@pytest.mark.parametrize("confirmed", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_only_names_that_were_not_confirmed_are_blamed(
    context: bytes, tmp_path: Path, *, confirmed: bool, way: str
) -> None:
    """Whichever connection the daemon ends first: it may report the failure while the transfer still stands."""
    make_file(context + b"/in")
    explained = anyio.Event()

    async def script(engine: FakeEngine) -> None:
        session, answer = await engine.session(), await engine.build()
        stream = await session.file_sync(b"context")
        if confirmed:
            await session.finish_sync(stream)
        await answer.fail(COMPLAINT)
        await answer.end()
        await explained.wait()

    async with fake_engine(script, way=way) as engine, bk.connect(engine.address) as client:
        with pytest.raises(bk.BuildError if confirmed else bk.TransferError) as caught:
            await client.build(os.fsdecode(context), outputs=[bk.output.local(tmp_path / "out")])
        explained.set()
    assert (r"in/odd-\xff\xe4" in str(caught.value)) == (not confirmed)


async def test_values_of_attributes_are_bytes_everywhere(daemon: Daemon, context: bytes, tmp_path: Path) -> None:
    """Names of attributes that are not UTF-8 are left out, as one daemon takes them and the other does not."""
    plain = context + b"/in/plain"
    os.setxattr(plain, b"user.value", ODD)
    os.setxattr(plain, b"user." + ODD, b"x")
    async with bk.connect(daemon.address) as client:
        output = bk.output.local(tmp_path / "out", permissions="upstream")
        await client.build(os.fsdecode(context), outputs=[output])
    kept = tmp_path / "out/plain"
    assert {key: os.getxattr(kept, key) for key in os.listxattr(kept)} == {"user.value": ODD}


@tricky(40)
async def test_a_build_takes_it_like_any_other_file(daemon: Daemon, reference: ReferenceClient, tmp_path: Path) -> None:
    """No Dockerfile can ask for a metadata-only transfer; the trees are buildx's."""
    context = tmp_path / "context"
    (context / "sub").mkdir(parents=True)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    for name in (".fsutil-metadata", "sub/.fsutil-metadata", "z"):
        (context / name).write_text(name)
    reference.build(daemon.address, "-o", f"type=local,dest={tmp_path / 'theirs'}", context)
    async with bk.connect(daemon.address) as client:
        await client.build(context, outputs=[bk.output.local(tmp_path / "ours")])
    theirs = of_directory(tmp_path / "theirs")
    assert ".fsutil-metadata" in theirs
    assert of_directory(tmp_path / "ours") == theirs
