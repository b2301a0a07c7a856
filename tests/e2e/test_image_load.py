"""Images that travel from the daemon that builds them into an Engine that loads them."""

from __future__ import annotations

import hashlib
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import anyio
import pytest
from leftovers import nothing_left

import buildkit_session as bk
from buildkit_session.errors import (
    BuildError,
    EngineError,
    EngineUnreachable,
    InputError,
    QuotaExceeded,
    TransferError,
    UnsupportedError,
)
from buildkit_session.testing import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from buildkit_session.testing import Buildkitd, Daemon, ReferenceClient

    Refusing: TypeAlias = Callable[[bytes, bool], AbstractAsyncContextManager[Callable[[str], Awaitable[None]]]]

pytestmark = pytest.mark.anyio

PATIENCE = 60


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_bytes(b"content\n" * 500_000)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\nLABEL a=b\n")
    return context


def inspected(reference: ReferenceClient, address: str, name: str) -> dict[str, object]:
    found = json.loads(reference.run(address, "image", "inspect", name).stdout)[0]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def classic_daemon(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """The Engine that images are loaded into; the one that is found in the environment."""
    return engine_in_use(request, monkeypatch, "docker-newest")


@pytest.fixture(params=["docker-newest", "docker-containerd"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """The same, with each of its image stores."""
    return engine_in_use(request, monkeypatch, request.param)


def engine_in_use(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str) -> Daemon:
    try:
        found: Daemon = request.getfixturevalue("daemons").get(name)
    except Unavailable as reason:
        pytest.skip(str(reason))
    monkeypatch.setenv("DOCKER_HOST", found.address)
    return found


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives the docker context ``other`` an address."""

    def use(address: str) -> None:
        meta = tmp_path / "config/contexts/meta" / hashlib.sha256(b"other").hexdigest()
        meta.mkdir(parents=True)
        (meta / "meta.json").write_text(json.dumps({"Name": "other", "Endpoints": {"docker": {"Host": address}}}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")

    return use


async def test_from_buildkitd(
    buildkitd: Buildkitd, engine: Daemon, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    events: list[object] = []
    async with nothing_left(tmp_path, patience=PATIENCE), bk.connect(buildkitd.address) as client:
        result = await client.build(context, tags=["loaded:1", "loaded:2"], load=True, on_event=events.append)
    for name in ("loaded:1", "loaded:2"):
        assert inspected(reference, engine.address, name)["Id"] == result.image_id
    steps = [event for event in events if isinstance(event, bk.Vertex) and event.name == "importing to docker"]
    assert [(step.started is not None, step.completed is not None, step.error) for step in steps] == [
        (True, False, ""),
        (True, True, ""),
    ]


async def test_same_image_as_buildx(
    buildkitd: Buildkitd, engine: Daemon, reference: ReferenceClient, context: Path
) -> None:
    """To the digest: the same exporter was asked for, with the same attributes."""
    epoch = {"SOURCE_DATE_EPOCH": "1"}
    with reference.environment(engine.address) as environment:
        create = ["buildx", "create", "--name=theirs", "--driver=remote", buildkitd.address]
        reference.run_in(environment, *create).check_returncode()
        build = ["buildx", "build", "--builder=theirs", "--load", "--network=none", "--build-arg=SOURCE_DATE_EPOCH=1"]
        reference.run_in(environment, *build, "-t", "theirs", context).check_returncode()
    async with bk.connect(buildkitd.address) as client:
        await client.build(context, tags="ours", load=True, network="none", build_args=epoch)
    ours, theirs = (inspected(reference, engine.address, name) for name in ("ours", "theirs"))
    assert {key: ours[key] for key in ("Id", "RootFS", "Created")} == {
        key: theirs[key] for key in ("Id", "RootFS", "Created")
    }


async def test_into_another_context(
    buildkitd: Buildkitd, engine: Daemon, reference: ReferenceClient, context: Path, other: Callable[[str], None]
) -> None:
    """It goes before the address in the environment."""
    other(engine.address)
    async with bk.connect(buildkitd.address) as client:
        await client.build(context, tags="elsewhere", outputs=["type=docker,context=other"])
        with pytest.raises(InputError, match="there is no docker context 'third'"):
            await client.build(context, outputs=["type=docker,context=third"])
    assert inspected(reference, engine.address, "elsewhere")


async def test_from_an_engine_into_another(
    c8d_daemon: Daemon,
    classic_daemon: Daemon,
    reference: ReferenceClient,
    context: Path,
    other: Callable[[str], None],
) -> None:
    other(classic_daemon.address)
    async with bk.connect(c8d_daemon.address) as client:
        await client.build(context, tags="from-engine", outputs=[bk.output.docker(context="other")])
    assert inspected(reference, classic_daemon.address, "from-engine")
    missing = reference.run(c8d_daemon.address, "image", "inspect", "from-engine", check=False)
    assert missing.returncode == 1


async def test_a_classic_engine_has_no_archives(daemon: Daemon, context: Path) -> None:
    async with bk.connect(daemon.address) as client:
        with pytest.raises(UnsupportedError, match="Docker exporter is not supported by"):
            await client.build(context, outputs=[bk.output.docker(context="default")])


async def test_a_build_that_fails(buildkitd: Buildkitd, classic_daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """No request is opened, or left open."""
    (context / "Dockerfile").write_text("FROM scratch\nCOPY missing /\n")
    async with nothing_left(tmp_path, patience=PATIENCE), bk.connect(buildkitd.address) as client:
        with pytest.raises(BuildError, match="missing"):
            await client.build(context, load=True)


async def test_an_image_that_is_too_large(
    buildkitd: Buildkitd, classic_daemon: Daemon, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    too_large = bk.output.docker(max_bytes=1000)
    async with nothing_left(tmp_path, patience=PATIENCE), bk.connect(buildkitd.address) as client:
        with pytest.raises(QuotaExceeded, match="max_bytes"):
            await client.build(context, tags="too-large", outputs=[too_large])
    assert reference.run(classic_daemon.address, "image", "inspect", "too-large", check=False).returncode == 1


async def test_giving_up_while_it_loads(
    buildkitd: Buildkitd, classic_daemon: Daemon, context: Path, tmp_path: Path
) -> None:
    async with (
        nothing_left(tmp_path, patience=PATIENCE),
        bk.connect(buildkitd.address) as client,
        client.start(context, load=True, no_cache=True) as build,
    ):
        async for event in build:
            if isinstance(event, bk.Vertex) and event.name == "importing to docker":
                break
        else:
            pytest.fail("it was never loaded")


async def test_nobody_there_to_load_it(
    buildkitd: Buildkitd, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found out before anything is built."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    async with nothing_left(tmp_path), bk.connect(buildkitd.address) as client:
        with pytest.raises(EngineUnreachable, match=r"/nowhere/docker\.sock"):
            await client.build(context, load=True)


@pytest.mark.parametrize(
    ("status", "body", "at_once"),
    [
        ("500 No", b'{"message":"no space at all"}', True),
        ("500 No", b'{"message":"no space at all"}', False),
        ("200 OK", b'{"stream":"Loading"}\n{"errorDetail":{"message":"no space at all"}}\n', False),
    ],
)
async def test_an_engine_that_refuses(
    status: str, body: bytes, at_once: bool, buildkitd: Buildkitd, refusing: Refusing
) -> None:
    """At once, before it has read anything; in the end; or in the stream of a reply that began well."""
    async with refusing(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body, at_once) as build:
        with anyio.fail_after(PATIENCE), pytest.raises(EngineError, match="no space at all"):
            await build(buildkitd.address)


async def test_an_engine_that_hangs_up(buildkitd: Buildkitd, refusing: Refusing) -> None:
    async with refusing(b"", True) as build:
        with anyio.fail_after(PATIENCE), pytest.raises(TransferError, match=r"the image was not loaded: .* broke off"):
            await build(buildkitd.address)


@pytest.fixture
def refusing(context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """Gives a build whose image is loaded into an Engine that is played here."""

    async def build(address: str) -> None:
        async with nothing_left(context), bk.connect(address) as client:
            await client.build(context, load=True)

    @asynccontextmanager
    async def use(answer: bytes, at_once: bool) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
        path = tmp_path / "engine.sock"
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, lambda stream: play_engine(stream, answer, at_once=at_once))
            try:
                yield build
            finally:
                tasks.cancel_scope.cancel()

    return use


async def play_engine(stream: anyio.abc.SocketStream, answer: bytes, *, at_once: bool) -> None:
    """Answer one request: a ping, a question about the Engine, or an archive to load."""
    async with stream:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive()
        if b"/_ping" in received:
            await stream.send(b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nServer: Docker/28\r\nContent-Length: 0\r\n\r\n")
        elif b"/info" in received:
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        else:
            while not at_once and not received.endswith(b"0\r\n\r\n"):
                received = received[-8:] + await stream.receive()
            await stream.send(answer)
