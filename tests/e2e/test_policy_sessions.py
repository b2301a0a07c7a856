"""A function decides about the sources of a build, or a daemon that would not ask it is refused."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import traceback
from hashlib import sha256, sha512
from shutil import which
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from leftovers import nothing_left
from web import served

import buildkit_session as bk
from buildkit_session import policy

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Buildkitd, Daemon, Registry

pytestmark = pytest.mark.anyio


@pytest.fixture
async def images(buildkitd: Buildkitd, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two images that only a registry has; their digests by their identifiers."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "Dockerfile").write_text("FROM scratch\nARG NAME\nENV NAME=$NAME\nADD name-* /\n")
    found: dict[str, str] = {}
    async with bk.connect(buildkitd.address) as client:
        for name in ("one", "two"):
            (folder / f"name-{name}").write_text(name)
            tag = f"{registry.host}/policy/{name}:1"
            args = {"NAME": name}
            result = await client.build(folder, build_args=args, outputs=[bk.output.registry(name=tag)])
            found[f"docker-image://{tag}"] = result.metadata["containerimage.digest"]
            (folder / f"name-{name}").unlink()
    return found


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("content")
    return context


async def test_allowed(native_daemon: Daemon, context: Path, tmp_path: Path, images: dict[str, str]) -> None:
    """Every kind of source is asked about: images, files from the web, directories."""
    one = next(iter(images))
    asked: list[policy.Source] = []

    async def decide(source: policy.Source) -> policy.Decision:
        await anyio.lowlevel.checkpoint()
        asked.append(source)
        return policy.allow()

    with served({"/f": b"from the web"}) as url:
        (context / "Dockerfile").write_text(f"FROM {one[15:]}\nADD {url}/f /web\nCOPY file /\n")
        async with nothing_left(tmp_path), bk.connect(native_daemon.address) as client:
            await client.build(context, source_policy=decide, outputs=[tmp_path / "out"])
    assert (tmp_path / "out/web").read_bytes() == b"from the web"
    by_scheme = {source.scheme: source for source in asked}
    assert {"docker-image", "http", "local"} <= set(by_scheme)
    assert by_scheme["local"].of_session
    assert not by_scheme["http"].of_session
    assert by_scheme["docker-image"].platform.startswith("linux/")


async def test_denied(native_daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """The messages come back; nothing of the source was used."""
    (context / "Dockerfile").write_text("FROM scratch\nADD http://127.0.0.1:1/f /\n")

    def decide(source: policy.Source) -> policy.Decision:
        return policy.allow() if source.of_session else policy.deny(f"no {source.scheme}", "ask Bob")

    async with nothing_left(tmp_path), bk.connect(native_daemon.address) as client:
        with pytest.raises(bk.BuildError, match="not allowed by policy") as caught:
            await client.build(context, source_policy=decide, outputs=[tmp_path / "out"])
    assert caught.value.denials == ("no http", "ask Bob")
    assert "ask Bob" in "".join(traceback.format_exception(caught.value))
    assert not (tmp_path / "out").exists()


async def test_converted(native_daemon: Daemon, context: Path, tmp_path: Path, images: dict[str, str]) -> None:
    """An image takes the place of another; a file from the web keeps the attributes that it has."""
    one, two = images
    (context / "Dockerfile").write_text(f"FROM {one[15:]}\n")

    async def decide(source: policy.Source) -> policy.Decision:
        await anyio.lowlevel.checkpoint()
        if source.identifier.startswith(one):
            return policy.convert(f"{two}@{images[two]}")
        return policy.allow()

    async with bk.connect(native_daemon.address) as client:
        await client.build(context, source_policy=decide, outputs=[tmp_path / "out"])
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["name-two"]
        with served({"/a": b"a", "/b": b"b"}) as url:
            (context / "Dockerfile").write_text(f"FROM scratch\nADD {url}/a /given\n")
            await client.build(
                context,
                # What is asked for again is converted to itself.
                source_policy=lambda source: policy.allow() if source.of_session else policy.convert(f"{url}/b"),
                outputs=[tmp_path / "web"],
            )
    assert (tmp_path / "web/given").read_bytes() == b"b"


@pytest.mark.skipif(which("git") is None, reason="no git")
async def test_metadata(native_daemon: Daemon, context: Path, tmp_path: Path, images: dict[str, str]) -> None:
    """The digest and the config of an image, digests of a file, the commit of a repository, before it is decided."""
    one = next(iter(images))
    known: dict[str, policy.Source] = {}

    async def decide(source: policy.Source) -> policy.Decision:
        await anyio.lowlevel.checkpoint()
        if not (source.of_session or source.image or source.http or source.git):
            return policy.more(git_objects=True, http_algorithm="sha512", http_suffix=b"!")
        known[source.scheme] = source
        return policy.allow()

    commit, repository = a_repository(tmp_path / "git")
    with served({"/f": b"from the web", **repository}) as url:
        (context / "Dockerfile").write_text(f"FROM {one[15:]}\nADD {url}/f /web\nADD {url}/x.git#main /git\n")
        async with bk.connect(native_daemon.address) as client:
            await client.build(context, source_policy=decide, outputs=[tmp_path / "out"])
    assert (tmp_path / "out/git/file").read_text() == "in git"
    image, file, tree = known["docker-image"].image, known["http"].http, known["git"].git
    assert image is not None
    assert image.digest == images[one]
    assert "NAME=one" in json.loads(image.config)["config"]["Env"]
    assert file is not None
    assert file.checksum == f"sha256:{sha256(b'from the web').hexdigest()}"
    assert file.digest == f"sha512:{sha512(b'from the web!').hexdigest()}"
    assert tree is not None
    assert (tree.checksum, tree.ref) == (commit, "refs/heads/main")
    assert b"said so" in tree.commit_object


def a_repository(folder: Path) -> tuple[str, dict[str, bytes]]:
    """A commit, and the files of its repository as a plain web server has them."""
    folder.mkdir()
    (folder / "file").write_text("in git")

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "said so")
    git("update-server-info")
    root = folder / ".git"
    files = {f"/x.git/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}
    files["/x.git/info/refs?service=git-upload-pack"] = files["/x.git/info/refs"]
    return git("rev-parse", "HEAD"), files


async def test_a_context_that_is_a_stream(native_daemon: Daemon, tmp_path: Path) -> None:
    """The upload is a source too, of this side; its digest can be had, though it can be read but once."""
    known: list[policy.Source] = []

    def decide(source: policy.Source) -> policy.Decision:
        if source.http is None:
            return policy.more()
        known.append(source)
        return policy.allow()

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(data := b"FROM scratch\nCOPY Dockerfile /\n")
        archive.addfile(entry, io.BytesIO(data))
    async with bk.connect(native_daemon.address) as client:
        await client.build(io.BytesIO(buffer.getvalue()), source_policy=decide, outputs=[tmp_path / "out"])
    assert (tmp_path / "out/Dockerfile").read_bytes() == data
    assert known
    assert all(source.of_session and source.http and source.http.checksum for source in known)


class SpecialError(Exception):
    pass


async def raises(_source: policy.Source) -> policy.Decision:
    await anyio.lowlevel.checkpoint()
    raise SpecialError("hunter2")


async def hangs(_source: policy.Source) -> policy.Decision:
    await anyio.sleep_forever()
    return policy.allow()


async def answers_by_a_boolean(_source: policy.Source) -> Any:
    await anyio.lowlevel.checkpoint()
    return True


@pytest.mark.parametrize(
    ("decide", "expected", "text"),
    [
        (raises, bk.CallbackError, "asked about local://[a-z]+, raised SpecialError"),
        (policy.verifier(hangs, timeout=0.1), bk.CallbackError, "asked about .*, did not answer within 0.1 s"),
        (answers_by_a_boolean, bk.InputError, "must return a decision such as policy.deny.., not a bool"),
        (lambda _source: policy.more(), bk.InputError, "there is no more"),
        (lambda source: policy.convert(f"{source.identifier}x"), bk.BuildError, "too many policy requests"),
        (policy.verifier(lambda _: policy.allow(), rules={"rules": [{"action": "DENY"}]}), bk.BuildError, "."),
    ],
)
async def test_what_goes_wrong_denies(
    decide: Any, expected: type[Exception], text: str, native_daemon: Daemon, context: Path
) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    out = context.parent / "out"
    async with nothing_left(context.parent), bk.connect(native_daemon.address) as client:
        with pytest.raises(expected, match=text) as caught:
            await client.build(context, source_policy=decide, outputs=[out])
        if decide is raises:
            assert isinstance(caught.value.__cause__, SpecialError)
    assert not out.exists()
    if native_daemon.log is not None:
        assert "hunter2" not in native_daemon.log.read_text()


async def test_questions_are_guarded_too(native_daemon: Daemon, context: Path) -> None:
    """Rules and functions hold for what the frontend does without a build."""
    (context / "Dockerfile").write_text("FROM scratch\n")
    rules = {"rules": [{"action": "DENY", "selector": {"identifier": "local://*"}}]}
    async with bk.connect(native_daemon.address) as client:
        for given, text in ((lambda _source: policy.deny("not even that"), "not allowed"), (rules, "denied by policy")):
            with pytest.raises(bk.BuildError, match=text):
                await client.call(context, call="outline", source_policy=given)


@pytest.mark.parametrize("way", [None, "build"])
async def test_engines_that_would_not_ask(daemon: Daemon, context: Path, way: Literal["build"] | None) -> None:
    """They would use any source without a word, so the build is not begun."""
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    asked: list[policy.Source] = []

    def decide(source: policy.Source) -> policy.Decision:
        asked.append(source)
        return policy.allow()

    text = "a source policy needs BuildKit's own API" if way else r"a function as source policy needs BuildKit 0\.26"
    async with bk.connect(daemon.address, way=way) as client:
        with pytest.raises(bk.UnsupportedError, match=text):
            await client.build(context, source_policy=decide)
    assert asked == []


async def test_a_buildkitd_that_would_not_ask(buildkitd: Buildkitd, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\n")
    async with bk.connect(buildkitd.address) as client:
        with pytest.raises(bk.UnsupportedError, match=r"needs BuildKit 0\.26; found an older one at "):
            await client.build(context, source_policy=lambda _source: policy.allow())
