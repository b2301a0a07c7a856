"""Outputs that are chosen when the result of a build is there, or a daemon that would not ask is refused."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from leftovers import nothing_left

import buildkit_session as bk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from buildkit_session.testing import Buildkitd, Daemon

pytestmark = pytest.mark.anyio


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("content")
    (context / "Dockerfile").write_text("FROM scratch\nENV A=b\nCOPY file /\n")
    return context


@pytest.fixture(params=["native", "buildkitd"])
def address(request: pytest.FixtureRequest) -> str:
    """Of BuildKit 0.33, which also asks for the end, and of 0.25, which does not."""
    fixture = {"native": "native_daemon", "buildkitd": "buildkitd"}[request.param]
    found: Daemon | Buildkitd = request.getfixturevalue(fixture)
    return found.address


class Chooser:
    """Writes down what it is asked and told."""

    def __init__(self, choose: Callable[[], Any]) -> None:
        self.asked: list[bk.ExportRequest] = []
        self.told: list[Mapping[str, str]] = []
        self._choose = choose

    async def find(self, request: bk.ExportRequest) -> Any:
        await anyio.lowlevel.checkpoint()
        self.asked.append(request)
        return self._choose()

    async def finalize(self, response: Mapping[str, str]) -> None:
        await anyio.lowlevel.checkpoint()
        self.told.append(response)


async def test_chosen_outputs_come_after_the_others(address: str, context: Path, tmp_path: Path) -> None:
    """A directory, an archive and a text: all arrive, in the result too, as if they had been known."""
    chooser = Chooser(
        lambda: [
            bk.output.local(tmp_path / "second", mode="swap"),
            bk.output.tar(tmp_path / "third.tar"),
            f"type=local,dest={tmp_path / 'fourth'}",
            bk.output.listing(),
        ]
    )
    async with nothing_left(tmp_path), bk.connect(address) as client:
        result = await client.build(context, outputs=[tmp_path / "first"], session_exporter=chooser)
    for name in ("first", "second", "fourth"):
        assert (tmp_path / name / "file").read_text() == "content"
    with tarfile.open(tmp_path / "third.tar") as archive:
        assert archive.getnames() == ["file"]
    assert [export.dest for export in result.exports] == [*(tmp_path / n for n in ("first", "second", "fourth")), None]
    assert [type(out).__name__ for out in result.outputs] == [
        *("LocalOutput", "LocalOutput", "TarOutput", "LocalOutput", "ListingOutput")
    ]
    (asked,) = chooser.asked
    assert "A=b" in json.loads(asked.metadata["containerimage.config"])["config"]["Env"]
    assert len(asked.refs) == 1
    assert chooser.told == [result.metadata]


async def test_nothing_is_made_by_default(address: str, context: Path, tmp_path: Path) -> None:
    """A function alone; the image that an Engine would keep is left to it."""
    asked: list[bk.ExportRequest] = []

    async def find(request: bk.ExportRequest) -> list[str]:
        await anyio.lowlevel.checkpoint()
        asked.append(request)
        return []

    async with nothing_left(tmp_path), bk.connect(address) as client:
        result = await client.build(context, session_exporter=find)
    assert (result.outputs, result.exports, result.image_id, result.warnings) == ((), (), None, ())
    assert len(asked) == 1


async def test_an_image_gets_the_tags(native_daemon: Daemon, buildkitd: Buildkitd, context: Path) -> None:
    for address in (native_daemon.address, buildkitd.address):
        chooser = Chooser(bk.output.image)
        async with bk.connect(address) as client:
            result = await client.build(context, tags="bks-chosen:1", session_exporter=chooser)
        assert result.image_id is not None
        assert "bks-chosen:1" in result.metadata["image.name"]
        assert chooser.told[0]["containerimage.digest"] == result.metadata["containerimage.digest"]


class SpecialError(Exception):
    pass


def broken() -> Any:
    raise SpecialError("hunter2")


@pytest.mark.parametrize(
    ("choose", "expected", "text"),
    [
        (broken, bk.CallbackError, "find raised SpecialError"),
        (lambda: None, bk.InputError, "find has returned None; return outputs, or an empty list"),
        (lambda: 3, bk.InputError, "outputs must be a list"),
        (lambda: ["type=local"], bk.InputError, "dest"),
        (lambda: [bk.output.tar(), bk.output.tar()], bk.InputError, "stdout"),
        (lambda: [bk.output.tar("/proc/nowhere/a.tar")], bk.InputError, "nowhere"),
        (lambda: [bk.output.oci("layout", tar=False)], bk.UnsupportedError, "cannot choose a layout"),
        (lambda: ["type=nonsense"], bk.BuildError, "nonsense"),
    ],
)
async def test_what_cannot_be_chosen(
    choose: Callable[[], Any], expected: type[Exception], text: str, buildkitd: Buildkitd, context: Path
) -> None:
    """The build fails with it, and nothing of the other outputs is left."""
    chooser, out = Chooser(choose), context.parent / "out"
    async with nothing_left(context.parent), bk.connect(buildkitd.address) as client:
        with pytest.raises(expected, match=text) as caught:
            await client.build(context, outputs=[out], session_exporter=chooser)
    assert chooser.told == []
    assert not out.exists()
    if expected is bk.CallbackError:
        assert isinstance(caught.value.__cause__, SpecialError)
    if buildkitd.log is not None:
        assert "hunter2" not in buildkitd.log.read_text()


async def test_an_archive_needs_containerds_store(
    native_daemon: Daemon, c8d_daemon: Daemon, context: Path, tmp_path: Path
) -> None:
    chooser = Chooser(lambda: [bk.output.oci(tmp_path / "a.tar")])
    async with bk.connect(native_daemon.address) as client:
        with pytest.raises(bk.UnsupportedError, match="OCI exporter is not supported"):
            await client.build(context, session_exporter=chooser)
    async with bk.connect(c8d_daemon.address) as client:
        await client.build(context, session_exporter=chooser)
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert "index.json" in archive.getnames()


async def test_the_end_fails(address: str, native_daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """So does the build; a directory that is only to be swapped in at its end stays as it was."""

    class Broken(Chooser):
        async def finalize(self, response: Mapping[str, str]) -> None:
            await super().finalize(response)
            raise SpecialError("hunter2")

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    chooser = Broken(lambda: [bk.output.local(tmp_path / "out", mode="swap")])
    async with nothing_left(tmp_path), bk.connect(address) as client:
        with pytest.raises(bk.CallbackError, match="finalize raised SpecialError") as caught:
            await client.build(context, session_exporter=chooser)
    assert isinstance(caught.value.__cause__, SpecialError)
    asked_for = isinstance(caught.value.__context__, bk.BuildError)  # the daemon has failed with it
    assert asked_for == (address == native_daemon.address)
    assert len(chooser.told) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]


async def test_giving_up_while_it_chooses(native_daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """The choice is cancelled with the build."""
    asking, cancelled = anyio.Event(), anyio.Event()

    async def find(_request: bk.ExportRequest) -> list[str]:
        asking.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        return []

    async with nothing_left(tmp_path), bk.connect(native_daemon.address) as client:
        async with client.start(context, session_exporter=find) as build:
            await asking.wait()
            assert not build.finished
        assert cancelled.is_set()


@pytest.mark.parametrize("way", [None, "build"])
async def test_daemons_that_would_not_ask(daemon: Daemon, context: Path, tmp_path: Path, way: Any) -> None:
    """Docker 20.10, and the endpoint of any Engine, which has no such thing."""
    chooser = Chooser(lambda: [tmp_path / "out"])
    async with bk.connect(daemon.address, way=way) as client:
        if way is None and not daemon.version.startswith("20.10"):
            await client.build(context, session_exporter=chooser)
            assert (tmp_path / "out" / "file").exists()
            return
        with pytest.raises(bk.UnsupportedError, match="a session exporter needs BuildKit"):
            await client.build(context, session_exporter=chooser)
    assert chooser.asked == []
