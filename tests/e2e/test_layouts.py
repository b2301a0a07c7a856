"""OCI layouts as caches, contexts and results of real builds.

Daemons with containerd's image store have all of it; one without can import a cache.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest
from service_builds import shared, solve

from buildkit_session.errors import RpcError, TransferError
from buildkit_session.messages.moby.buildkit.v1 import CacheOptions, CacheOptionsEntry, Exporter
from buildkit_session.services.content import Content
from buildkit_session.services.filesend import FileSend
from buildkit_session.services.oci_index import add_manifest, resolve
from buildkit_session.services.oci_layout import OciLayout
from buildkit_session.services.targets import StreamTarget
from buildkit_session.testing import Api

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.services import Service
    from buildkit_session.testing import Daemon, ReferenceClient

pytestmark = pytest.mark.anyio

BIG = os.urandom(3_000_000)
STEP = 'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox cat /proc/sys/kernel/random/uuid >/id"]\n'


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    """One step of it has another result each time it runs."""
    root = tmp_path / "context"
    root.mkdir()
    shutil.copy(busybox, root / "busybox")
    (root / "big").write_bytes(BIG)
    (root / "Dockerfile").write_text(f"FROM scratch\nCOPY busybox /bin/busybox\nCOPY big /\n{STEP}")
    return root


@pytest.fixture
def derived(tmp_path: Path) -> Path:
    """The context of a build that takes its base from elsewhere."""
    root = tmp_path / "derived"
    root.mkdir()
    (root / "Dockerfile").write_text("FROM base\nCOPY Dockerfile /derived\n")
    return root


async def build(daemon: Daemon, context: Path, *services: Service, **fields: Any) -> dict[str, bytes]:
    """Build and return the files of the result, without busybox."""
    result = io.BytesIO()
    with shared(context) as directory:
        target = FileSend({0: StreamTarget(result)})
        await solve(daemon, [directory, target, *services], exporters=[Exporter(type="tar")], **fields)
    result.seek(0)
    with tarfile.open(fileobj=result) as tar:
        entries = [entry for entry in tar if entry.name != "bin/busybox"]
        return {entry.name: file.read() for entry in entries if (file := tar.extractfile(entry))}


async def export_cache(daemon: Daemon, context: Path, cache: Path) -> None:
    with shared(context) as directory:
        content = Content({f"local:{cache}": OciLayout(cache, writable=True)})
        exports = [CacheOptionsEntry(type="local", attrs={"dest": str(cache), "mode": "max"})]
        response = await solve(daemon, [directory, content], cache=CacheOptions(exports=exports))
    add_manifest(cache, json.loads(response["cache.manifest"]))


async def export_image(daemon: Daemon, context: Path, layout: Path) -> None:
    with shared(context) as directory:
        content = Content({"export": OciLayout(layout, writable=True)})
        exporter = Exporter(type="oci", attrs={"tar": "false", "name": "docker.io/library/base:1"})
        response = await solve(daemon, [directory, content], exporters=[exporter])
    descriptor = json.loads(b64decode(response["containerimage.descriptor"]))
    add_manifest(layout, descriptor, names=response["image.name"].split(","))


async def build_with_cache(daemon: Daemon, context: Path, cache: Path) -> dict[str, bytes]:
    attributes = {"src": str(cache), "digest": str(resolve(cache).digest)}
    imports = [CacheOptionsEntry(type="local", attrs=attributes)]
    return await build(
        daemon,
        context,
        Content({f"local:{cache}": OciLayout(cache)}),
        cache=CacheOptions(imports=imports),
        frontend_attrs={"cache-imports": json.dumps([{"Type": "local", "Attrs": attributes}])},
    )


async def build_from_layout(daemon: Daemon, context: Path, layout: Path, digest: object) -> dict[str, bytes]:
    store = Content({"oci:key": OciLayout(layout)})
    return await build(daemon, context, store, frontend_attrs={"context:base": f"oci-layout://key@{digest}"})


def forget(daemon: Daemon) -> None:
    """Make a daemon drop its own cache."""
    Api(daemon.address).call("POST", "/build/prune?all=1")


def check(layout: Path) -> set[str]:
    """Every blob is what its name says, and nothing else lies around; returns their names."""
    files = list((layout / "blobs" / "sha256").iterdir())
    assert all(hashlib.sha256(file.read_bytes()).hexdigest() == file.name for file in files)
    assert {path.name for path in layout.iterdir()} == {"blobs", "ingest", "index.json", "oci-layout"}
    assert not list((layout / "ingest").iterdir())
    return {file.name for file in files}


async def test_a_cache_is_written_and_used(c8d_daemon: Daemon, daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """By another daemon as well, and by the same one when it has forgotten everything.

    Another BuildKit makes other steps of the same Dockerfile, to which the cache has no results.
    """
    cache = tmp_path / "cache"
    first = await build(c8d_daemon, context)
    await export_cache(c8d_daemon, context, cache)
    assert len(check(cache)) == 5  # manifest, configuration, three layers
    forget(c8d_daemon)
    assert await build_with_cache(c8d_daemon, context, cache) == first
    elsewhere = await build_with_cache(daemon, context, cache)
    assert (elsewhere == first) == (daemon.version == c8d_daemon.version)
    forget(c8d_daemon)
    assert await build(c8d_daemon, context) != first


async def test_a_second_export_adds_to_the_first(c8d_daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """Blobs that are there are not sent again, and the tag moves."""
    cache = tmp_path / "cache"
    await export_cache(c8d_daemon, context, cache)
    before = {file: file.stat().st_ino for file in (cache / "blobs/sha256").iterdir()}
    with (context / "Dockerfile").open("a") as dockerfile:
        dockerfile.write("COPY Dockerfile /more\n")
    await export_cache(c8d_daemon, context, cache)
    check(cache)
    assert before.items() < {file: file.stat().st_ino for file in (cache / "blobs/sha256").iterdir()}.items()
    assert len(json.loads((cache / "index.json").read_text())["manifests"]) == 1


async def test_an_image_is_exported_and_built_upon(
    c8d_daemon: Daemon, context: Path, derived: Path, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    await export_image(c8d_daemon, context, layout)
    check(layout)
    forget(c8d_daemon)
    files = await build_from_layout(c8d_daemon, derived, layout, resolve(layout, "docker.io/library/base:1").digest)
    assert files["big"] == BIG
    assert "derived" in files


async def test_a_layout_without_the_blob(c8d_daemon: Daemon, derived: Path, tmp_path: Path) -> None:
    with pytest.raises(RpcError, match=r"(?i)not ?found"):
        await build_from_layout(c8d_daemon, derived, tmp_path, f"sha256:{'0' * 64}")


@pytest.mark.parametrize("which", [0, -1], ids=["smallest", "largest"])
async def test_a_damaged_blob_is_named(
    c8d_daemon: Daemon, context: Path, derived: Path, tmp_path: Path, which: int
) -> None:
    """One of the JSON documents, which a daemon would take as they come, or a layer."""
    layout = tmp_path / "layout"
    await export_image(c8d_daemon, context, layout)
    digest = resolve(layout, "1").digest
    blobs = sorted((layout / "blobs/sha256").iterdir(), key=lambda file: file.stat().st_size)
    damaged = blobs[which]
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b" ")
    forget(c8d_daemon)
    with pytest.raises(RpcError, match="is damaged") as caught:
        await build_from_layout(c8d_daemon, derived, layout, digest)
    assert isinstance(caught.value.__cause__, TransferError)
    assert str(caught.value.__cause__).startswith(f"blob sha256:{damaged.name} of the OCI layout {layout} is damaged")


async def test_buildx_reads_what_we_wrote(
    c8d_daemon: Daemon, reference: ReferenceClient, context: Path, derived: Path, tmp_path: Path
) -> None:
    cache, layout = tmp_path / "cache", tmp_path / "layout"
    first = await build(c8d_daemon, context)
    await export_cache(c8d_daemon, context, cache)
    await export_image(c8d_daemon, context, layout)
    forget(c8d_daemon)
    out = f"--output=type=local,dest={tmp_path}/out"
    reference.build(c8d_daemon.address, f"--cache-from=type=local,src={cache}", out, context)
    assert (tmp_path / "out" / "id").read_bytes() == first["id"]
    reference.build(c8d_daemon.address, f"--build-context=base=oci-layout://{layout}:1", out, derived)
    assert (tmp_path / "out" / "derived").exists()


async def test_we_read_what_buildx_wrote(
    c8d_daemon: Daemon, reference: ReferenceClient, context: Path, derived: Path, tmp_path: Path
) -> None:
    """And both write the same, down to the entry of the index."""
    first = await build(c8d_daemon, context)
    await export_cache(c8d_daemon, context, tmp_path / "ours")
    reference.build(c8d_daemon.address, f"--cache-to=type=local,mode=max,dest={tmp_path}/theirs", context)
    assert check(tmp_path / "theirs") == check(tmp_path / "ours")
    ours, theirs = (json.loads((tmp_path / name / "index.json").read_text()) for name in ("ours", "theirs"))
    assert ours == theirs
    forget(c8d_daemon)
    assert await build_with_cache(c8d_daemon, context, tmp_path / "theirs") == first
    out = f"--output=type=oci,tar=false,name=base:1,dest={tmp_path}/layout"
    reference.build(c8d_daemon.address, "--provenance=false", out, context)
    found = resolve(tmp_path / "layout", "docker.io/library/base:1")
    assert (await build_from_layout(c8d_daemon, derived, tmp_path / "layout", found.digest))["id"] == first["id"]
