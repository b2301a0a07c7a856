"""A Dockerfile that the daemon fetches for this side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from leftovers import nothing_left
from web import served

import buildkit_session as bk
from buildkit_session.errors import InputError, UnsupportedError
from buildkit_session.inputs import MAX_DOCKERFILE

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Buildkitd, Daemon, ReferenceClient

pytestmark = pytest.mark.anyio

TEXT = b"FROM scratch\nCOPY here /there\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    (context / "here").write_text("found")
    return context


async def test_a_build(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    with served({"/sub/My.Dockerfile": TEXT}) as url:
        async with nothing_left(tmp_path), bk.connect(daemon.address) as client:
            await client.build(context, file=f"{url}/sub/My.Dockerfile", outputs=[bk.output.local(tmp_path / "out")])
    assert (tmp_path / "out" / "there").read_text() == "found"


async def test_buildkitd(buildkitd: Buildkitd, context: Path, tmp_path: Path) -> None:
    with served({"/Dockerfile": TEXT}) as url:
        async with bk.connect(buildkitd.address) as client:
            await client.build(context, file=f"{url}/Dockerfile", outputs=[bk.output.local(tmp_path / "out")])
    assert (tmp_path / "out" / "there").read_text() == "found"


async def test_a_check_names_it_as_buildx_does(daemon: Daemon, reference: ReferenceClient, context: Path) -> None:
    if daemon.version.startswith("20.10"):
        pytest.skip("the frontend of Docker 20.10 knows no calls")
    with served({"/Dockerfile": b"from scratch\nCOPY here /\n"}) as url:
        theirs = reference.build(daemon.address, "--check", "-f", f"{url}/Dockerfile", context, check=False)
        async with bk.connect(daemon.address) as client:
            ours = await client.check(context, file=f"{url}/Dockerfile")
    assert f"{url}/Dockerfile:1" in ours.text
    assert (ours.text, ours.exit_code) == (theirs.stdout, theirs.returncode)


async def test_what_is_not_there(daemon: Daemon, context: Path) -> None:
    with served({}) as url:
        async with bk.connect(daemon.address) as client:
            with pytest.raises(InputError, match=rf"cannot fetch the Dockerfile at {url}/Dockerfile: .*404"):
                await client.build(context, file=f"{url}/Dockerfile")


async def test_what_is_no_dockerfile(daemon: Daemon, context: Path) -> None:
    with served({"/Dockerfile": b"#" * (MAX_DOCKERFILE + 1)}) as url:
        async with bk.connect(daemon.address) as client:
            with pytest.raises(InputError, match=f"longer than {MAX_DOCKERFILE} bytes"):
                await client.build(context, file=f"{url}/Dockerfile")


async def test_the_largest_there_is(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """It is beyond the usual limit of a message's size in steps along the way."""
    padding = b"#\n" * ((MAX_DOCKERFILE - len(TEXT)) // 2)
    with served({"/Dockerfile": TEXT + padding}) as url:
        async with bk.connect(daemon.address) as client:
            await client.build(context, file=f"{url}/Dockerfile", outputs=[bk.output.local(tmp_path / "out")])
    assert (tmp_path / "out" / "there").read_text() == "found"


async def test_the_api_of_the_engine_fetches_nothing(daemon: Daemon, context: Path) -> None:
    async with bk.connect(daemon.address, way="build") as client:
        with pytest.raises(UnsupportedError, match="BuildKit's own API is needed"):
            await client.build(context, file="http://127.0.0.1:9/Dockerfile")
