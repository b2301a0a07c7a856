"""Images that go to a registry: pushed by BuildKit, or by an Engine with its classic store."""

from __future__ import annotations

import json
from base64 import b64encode
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest
from leftovers import nothing_left

import buildkit_session as bk
from buildkit_session.errors import BuildError, EngineError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Buildkitd, Daemon, ReferenceClient, Registry

pytestmark = pytest.mark.anyio


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("content")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    return context


def digest_in(registry: Registry, name: str, tag: str) -> str:
    """What the registry calls the image."""
    kinds = ("docker.distribution.manifest.v2", "oci.image.manifest.v1", "oci.image.index.v1")
    headers = {"Accept": ",".join(f"application/vnd.{kind}+json" for kind in kinds)}
    if registry.user:
        headers["Authorization"] = f"Basic {b64encode(f'{registry.user}:{registry.password}'.encode()).decode()}"
    connection = HTTPConnection(registry.host, timeout=10)
    try:
        connection.request("HEAD", f"/v2/{name}/manifests/{tag}", headers=headers)
        return str(connection.getresponse().headers["Docker-Content-Digest"])
    finally:
        connection.close()


async def test_a_classic_engine(
    daemon: Daemon, registry: Registry, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    name = f"team/classic-{daemon.version[:2]}"
    tags = [f"{registry.host}/{name}:one", f"{registry.host}/{name}"]
    events: list[object] = []
    async with nothing_left(tmp_path), bk.connect(daemon.address) as client:
        result = await client.build(context, tags=tags, push=True, on_event=events.append)
    digest = digest_in(registry, name, "one")
    assert result.metadata["containerimage.digest"] == digest == digest_in(registry, name, "latest")
    assert result.image_id == json.loads(reference.run(daemon.address, "image", "inspect", tags[0]).stdout)[0]["Id"]
    steps = [event for event in events if isinstance(event, bk.Vertex) and event.name.startswith("pushing ")]
    assert [(step.name, step.completed is not None, step.error) for step in steps] == [
        (f"pushing {tag} with docker", done, "") for tag in tags for done in (False, True)
    ]
    statuses = {event.id: event for event in events if isinstance(event, bk.VertexStatus) and "pushing" in event.id}
    assert statuses
    assert all(status.completed for status in statuses.values())


async def test_same_metadata_as_buildx(
    daemon: Daemon, registry: Registry, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    tag = f"{registry.host}/team/same-{daemon.version[:2]}:1"
    file = tmp_path / "metadata.json"
    reference.build(daemon.address, "--push", "-t", tag, f"--metadata-file={file}", context)
    theirs = {key: value for key, value in json.loads(file.read_text()).items() if not key.startswith("buildx.")}
    async with bk.connect(daemon.address) as client:
        ours = (await client.build(context, tags=tag, push=True, network="none")).metadata
    assert ours == theirs


async def test_a_password(daemon: Daemon, private_registry: Registry, context: Path) -> None:
    registry = private_registry
    name = f"team/private-{daemon.version[:2]}"
    known = {registry.host: (registry.user, registry.password)}
    async with bk.connect(daemon.address, credentials=known) as client:
        result = await client.build(context, tags=f"{registry.host}/{name}:1", push=True)
    assert result.metadata["containerimage.digest"] == digest_in(registry, name, "1")


@pytest.mark.parametrize("credentials", [None, {"elsewhere.example": ("alice", "wonderland")}])
async def test_without_a_password(
    credentials: dict[str, tuple[str, str]] | None, daemon: Daemon, private_registry: Registry, context: Path
) -> None:
    host = private_registry.host
    events: list[object] = []
    async with bk.connect(daemon.address, credentials=credentials) as client:
        with pytest.raises(EngineError, match=rf"cannot push {host}/team/x:1: .*docker login {host}"):
            await client.build(context, tags=f"{host}/team/x:1", push=True, on_event=events.append)
    last = [event for event in events if isinstance(event, bk.Vertex) and event.name.startswith("pushing ")][-1]
    assert "cannot push" in last.error


async def test_no_name(daemon: Daemon, context: Path) -> None:
    async with bk.connect(daemon.address) as client:
        with pytest.raises(InputError, match="tag is needed when pushing"):
            await client.build(context, push=True)


async def test_giving_up(daemon: Daemon, registry: Registry, context: Path, tmp_path: Path) -> None:
    tag = f"{registry.host}/team/given-up:1"
    async with (
        nothing_left(tmp_path),
        bk.connect(daemon.address) as client,
        client.start(context, tags=tag, push=True) as build,
    ):
        async for event in build:
            if isinstance(event, bk.Vertex) and event.name.startswith("pushing "):
                break
        assert not build.finished


async def test_buildkit_pushes(
    c8d_daemon: Daemon, buildkitd: Buildkitd, private_registry: Registry, context: Path
) -> None:
    """With the credentials of the session."""
    registry = private_registry
    known = {registry.host: (registry.user, registry.password)}
    for address, name in ((c8d_daemon.address, "team/c8d"), (buildkitd.address, "team/buildkitd")):
        async with bk.connect(address, credentials=known) as client:
            result = await client.build(context, tags=f"{registry.host}/{name}:1", push=True)
        assert result.metadata["containerimage.digest"] == digest_in(registry, name, "1")
        async with bk.connect(address) as client:
            with pytest.raises(BuildError, match=r"(?i)401|unauthorized|authorization"):
                await client.build(context, tags=f"{registry.host}/{name}:2", push=True)
