"""Every way to a BuildKit: the same build, files up and down, a secret, a failure, and what ``info()`` says of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

import buildkit_session as bk
from buildkit_session.testing import start_sshd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from buildkit_session.testing import BuilderContainer, Buildkitd, Daemon

pytestmark = pytest.mark.anyio

DOCKERFILE = """\
FROM scratch AS tools
COPY busybox /bin/busybox
FROM tools AS made
RUN --mount=type=secret,id=word ["/bin/busybox", "sh", "-c", "/bin/busybox cp /run/secrets/word /word"]
FROM tools AS failing
RUN ["/bin/busybox", "sh", "-c", "echo before; exit 7"]
FROM scratch AS files
COPY --from=made /word /
COPY big /big
"""
BIG = os.urandom(3 << 20)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Path:
    root = tmp_path_factory.mktemp("ways")
    shutil.copy(busybox, root / "busybox")
    (root / "Dockerfile").write_text(DOCKERFILE)
    (root / "big").write_bytes(BIG)
    return root


async def builds(client: bk.Client, context: Path, out: Path) -> None:
    """Build twice, once in vain."""
    async with client:
        result = await client.build(
            context, network="none", secrets={"word": bk.secret.value(b"hush")}, outputs=[bk.output.local(out)]
        )
        with pytest.raises(bk.BuildError, match="exit code: 7") as caught:
            await client.build(context, network="none", target="failing", outputs=["type=cacheonly"])
    assert (out / "word").read_bytes() == b"hush"
    assert (out / "big").read_bytes() == BIG
    assert result.ref
    assert caught.value.exit_code == 7
    assert caught.value.step is not None
    assert caught.value.step.log == ("before",)


async def way_of(client: bk.Client) -> str:
    async with client:
        info = await client.info()
        assert all(worker.platforms for worker in info.workers)
        return info.way


async def test_hijack(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    await builds(bk.connect(daemon.address), context, tmp_path / "out")
    assert await way_of(bk.connect(daemon.address)) == "hijack"


async def test_http2_on_the_engines_own_socket(native_daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """API 1.53 and newer: preferred, since such Engines call both hijacks deprecated."""
    await builds(bk.connect(native_daemon.address), context, tmp_path / "out")
    assert await way_of(bk.connect(native_daemon.address)) == "http2"
    await builds(bk.connect(native_daemon.address, way="hijack"), context, tmp_path / "hijacked")


async def test_http2_where_an_engine_has_it_not(daemon: Daemon) -> None:
    with pytest.raises(bk.SessionError):
        async with bk.connect(daemon.address, way="http2"):
            pass


async def test_buildkitd_on_a_unix_socket(buildkitd: Buildkitd, context: Path, tmp_path: Path) -> None:
    """What listens there is found out."""
    await builds(bk.connect(buildkitd.address), context, tmp_path / "out")
    assert await way_of(bk.connect(buildkitd.address)) == "direct"


async def test_buildkitd_on_tcp_with_mutual_tls(buildkitd: Buildkitd, context: Path, tmp_path: Path) -> None:
    made = buildkitd.certificates
    assert made is not None
    files = bk.TlsFiles(ca=made.ca, cert=made.cert, key=made.key)
    await builds(bk.connect(buildkitd.tcp_address, tls=files), context, tmp_path / "out")
    with pytest.raises(bk.SessionError):  # the server wants a certificate
        async with bk.connect(buildkitd.tcp_address, tls=bk.TlsFiles(ca=made.ca)):
            pass


async def test_the_engines_buildkit_as_a_buildkitd(forwarded: str, context: Path, tmp_path: Path) -> None:
    """The session in a tunnel, on Docker 20.10 too."""
    async with bk.connect(forwarded) as client:
        assert (await client.info()).way == "direct"
        with pytest.raises(bk.BuildError, match="exit code: 7"):
            await client.build(context, network="none", target="failing", outputs=["type=cacheonly"])
        await client.build(
            context, network="none", secrets={"word": bk.secret.value(b"hush")}, outputs=[bk.output.local(tmp_path)]
        )
    assert (tmp_path / "big").read_bytes() == BIG


async def test_buildkitd_in_a_container(
    builder_container: BuilderContainer, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", builder_container.address)
    await builds(bk.connect(f"docker-container://{builder_container.name}"), context, tmp_path / "out")


async def test_a_builder_of_buildx(
    builder_container: BuilderContainer, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name from Python, and chosen by ``BUILDX_BUILDER`` on the command line."""
    state = tmp_path / "buildx/instances"
    state.mkdir(parents=True)
    node = {"Name": builder_container.node, "Endpoint": builder_container.address, "DriverOpts": None, "Flags": None}
    builder = {"Name": "mine", "Driver": "docker-container", "Nodes": [node], "Dynamic": False}
    (state / "mine").write_text(json.dumps(builder))
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "buildx"))
    await builds(bk.connect(builder="mine"), context, tmp_path / "out")
    words = ["build", "--network=none", "--secret=id=word,env=WORD", "-o", str(tmp_path / "cli"), str(context)]
    done = await anyio.run_process(
        [sys.executable, "-m", "buildkit_session", *words],
        env={**os.environ, "PYTHONPATH": str(Path(bk.__file__).parents[1]), "BUILDX_BUILDER": "mine", "WORD": "hush"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(b'#0 building with "mine" instance using docker-container driver\n')
    assert (tmp_path / "cli/big").read_bytes() == BIG


@asynccontextmanager
async def over_ssh(address: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """An Engine behind a real sshd, whose sessions find the docker program on their way."""
    with start_sshd(environment={"PATH": os.environ["PATH"], "DOCKER_HOST": address}) as sshd:
        monkeypatch.setenv("PATH", f"{sshd.programs}:{os.environ['PATH']}")
        yield sshd.address


async def test_an_engine_over_ssh(
    engine_named: Callable[[str], Daemon], context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with over_ssh(engine_named("docker-newest").address, monkeypatch) as address:
        await builds(bk.connect(address), context, tmp_path / "out")
