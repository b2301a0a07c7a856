"""Run one case through one client, and observe what comes of it."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import pprint
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from drop_in_artifacts import of_bytes, of_path, scrub, shape
from drop_in_contexts import lay, packed

import buildkit_session
from buildkit_session.testing import Api, ReferenceClient, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from drop_in_cases import Aspect, Case, Kind

__all__ = ["Attempt", "Client", "Peer", "Surroundings", "differences", "observe", "run"]

Client: TypeAlias = Literal["theirs", "ours"]

_TIMEOUT = 100.0  # seconds
_ACCEPTED = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
# A step begins with its number and name; later lines about it carry the number too.
_STEP = re.compile(r"^#(\d+) (.*)$", re.MULTILINE)
_LOADED = re.compile(r"drop-in/[a-z0-9/-]+(?::\d+)?")


@dataclass(frozen=True, slots=True)
class Peer:
    """A daemon, and how each client is told of it.

    Attributes:
        kind: of the daemon.
        address: of it.
        homes: a folder with the settings of each client.
        reference: the client to compare with.
    """

    kind: Kind
    address: str
    homes: Mapping[Client, Path]
    reference: ReferenceClient

    @property
    def is_engine(self) -> bool:
        """Whether there are images to look at."""
        return self.kind != "buildkitd"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the command lines talk to; the names are those of the placeholders."""

    registry_host: str
    base: str
    scanner: str
    git: str
    http: str
    agent: Path
    layout: Path
    busybox: Path


@dataclass(frozen=True, slots=True)
class Attempt:
    """One case, through one client, with one daemon, in a folder of its own."""

    case: Case
    client: Client
    peer: Peer
    surroundings: Surroundings
    work: Path

    @property
    def place(self) -> str:
        """A place in the registry that no other attempt pushes to."""
        name = re.sub("[^a-z0-9]+", "-", self.case.name.lower())
        return f"{self.surroundings.registry_host}/drop-in/{name}/{self.peer.kind}/{self.client}"

    def fill(self, text: str) -> str:
        """Replace the placeholders of a text."""
        values = {"registry": self.place, "agent": str(self.surroundings.agent)}
        values |= {name: getattr(self.surroundings, name) for name in ("base", "scanner", "git", "http")}
        return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], text)

    def hide(self, value: object) -> str:
        """Show a value without what each attempt has of its own: its folder and its place in the registry."""
        text = pprint.pformat(value, width=100)
        text = text.replace(str(self.work), "WORK").replace(self.place, "REGISTRY")
        # Theirs knows a bare daemon by the name of a builder, ours by its address.
        return text.replace("'it/it0/", "'default/default/")

    def stdin(self) -> bytes:
        """What the client reads."""
        if self.case.stdin in {"tar", "tar.gz"}:
            return packed(self.work / "context", compress=self.case.stdin == "tar.gz")
        return self.case.stdin.encode()


def observe(attempt: Attempt) -> dict[Aspect, object]:
    """Run the lines of a case in a folder of its own, and describe what the last one has done."""
    case, work = attempt.case, attempt.work
    work.mkdir(parents=True)
    lay(work, case.context, attempt.surroundings.busybox)
    shutil.copytree(attempt.surroundings.layout, work / "given")
    before = {path.name for path in work.iterdir()}
    lines = [[attempt.fill(word) for word in words] for words in case.lines]
    loaded = sorted(_loaded_names(lines[-1])) if attempt.peer.is_engine else []
    api = Api(attempt.peer.address)
    _forget(api, loaded)
    stdin = attempt.stdin()
    variables = {name: attempt.fill(value) for name, value in case.environment.items()}
    for words in lines:
        done = run(words, attempt.client, attempt.peer, stdin=stdin, environment=variables, directory=work)
    made = [path for path in sorted(work.iterdir()) if path.name not in before]
    stderr = done.stderr.decode(errors="replace")
    return {
        "exit": done.returncode,
        "complaint": bool(re.search(case.complaint, stderr, re.IGNORECASE)),
        "stdout": attempt.hide(of_bytes(done.stdout)),
        "files": {path.name: attempt.hide(of_path(path)) for path in made},
        "images": {name: _loaded(api, name) for name in loaded},
        "pushed": dict(_pushed(attempt, lines[-1])),
        "steps": attempt.hide(sorted(_steps(stderr))) if _steps(stderr) else "",
        # Where the same line ran before, the daemon knows every step already.
        "cached": sorted(_cached(stderr)) if len(lines) > 1 and lines[0] == lines[-1] else None,
        "stderr": stderr,
    }


def differences(case: Case, theirs: Mapping[Aspect, object], ours: Mapping[Aspect, object]) -> str:
    """Show what differs and may not, line by line; nothing where all is the same."""
    uncompared = {"stderr", *case.allowed}
    if case.exit and not ours["steps"]:
        uncompared.add("steps")  # a mistake may be found before the daemon is asked
    return "\n".join(
        line
        for aspect in theirs
        if aspect not in uncompared
        for line in _differing_lines(aspect, theirs[aspect], ours[aspect])
    )


def _differing_lines(aspect: Aspect, theirs: object, ours: object) -> Iterator[str]:
    texts = [value if isinstance(value, str) else pprint.pformat(value, width=100) for value in (theirs, ours)]
    before, after = (text.splitlines() for text in texts)
    yield from difflib.unified_diff(before, after, f"{aspect}: theirs", f"{aspect}: ours", n=1, lineterm="")


def run(
    words: list[str], client: Client, peer: Peer, *, stdin: bytes, environment: Mapping[str, str], directory: Path
) -> subprocess.CompletedProcess[bytes]:
    """Run the words after ``build`` through one client."""
    home = peer.homes[client]
    own = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "DOCKER_CONFIG": str(home)}
    if client == "theirs":
        # A daemon that is no Engine's was made known as a builder.
        own |= {"DOCKER_HOST": peer.address} if peer.is_engine else {"BUILDX_BUILDER": "it"}
        command = [str(peer.reference.docker), "buildx", "build", *words]
    else:
        own |= {"PYTHONPATH": str(Path(buildkit_session.__file__).parents[1])}
        # Beside the name of a builder, an address in so many words would contradict it.
        reached = ["-H", peer.address] if "--builder" not in words else []
        own |= {} if reached else {"DOCKER_HOST": peer.address}
        command = [sys.executable, "-m", "buildkit_session", *reached, "build", *words]
    return subprocess.run(
        command,
        cwd=directory,
        env={**own, **environment},
        input=stdin,
        capture_output=True,
        timeout=_TIMEOUT,
        check=False,
    )


def _loaded_names(words: list[str]) -> set[str]:
    """Name the images that a command line leaves in an Engine: none where it names a file for them."""
    if any("type=oci" in word or "type=docker,dest" in word for word in words) and "type=image" not in words:
        return set()
    return {name for word in words if "127.0.0.1" not in word for name in _LOADED.findall(word)}


def _forget(api: Api, names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(Refused):
            api.call("DELETE", f"/images/{name}?force=true")


def _loaded(api: Api, name: str) -> object:
    """Describe an image of the Engine; ``None`` where there is none of that name."""
    try:
        found = api.call("GET", f"/images/{name}/json")
    except Refused:
        return None
    kept = ("Architecture", "Config", "Os", "RepoTags", "RootFS", "Variant")
    history = [(step["CreatedBy"], step["Comment"]) for step in api.call("GET", f"/images/{name}/history")]
    return {**{key: found.get(key) for key in kept}, "History": history}


def _pushed(attempt: Attempt, words: list[str]) -> Iterator[tuple[str, object]]:
    """Describe what the registry has under each name of the command line."""
    host = attempt.surroundings.registry_host
    pattern = rf"{re.escape(attempt.place)}/[a-z-]+:\d+"
    for name in sorted({found for word in words for found in re.findall(pattern, word)}):
        repository, _, tag = name.removeprefix(f"{host}/").rpartition(":")
        yield name.removeprefix(attempt.place), _Repository(host, repository).described(tag)


@dataclass(frozen=True, slots=True)
class _Repository:
    host: str
    name: str

    def described(self, reference: str) -> object:
        """Describe a manifest or an index, and every manifest and configuration that it names."""
        raw = self._get(f"manifests/{reference}")
        if raw is None:
            return None
        value = json.loads(raw)
        about = {key: shape(item) for key, item in value.items() if key not in {"manifests", "config", "layers"}}
        if "manifests" in value:
            return about | {"manifests": [self._pointed(entry) for entry in value["manifests"]]}
        config = json.loads(self._get(f"blobs/{value['config']['digest']}") or b"{}")
        kept = {key: item for key, item in config.items() if key not in {"created", "history", "layers", "records"}}
        layers = [(layer["mediaType"], shape(layer.get("annotations"))) for layer in value["layers"]]
        # The cache of a build is a configuration too, one that names its layers in no order.
        is_image = "rootfs" in config and config["architecture"] != "unknown"
        return about | {"config": kept if is_image else shape(kept), "layers": sorted(layers, key=repr)}

    def _pointed(self, descriptor: Mapping[str, object]) -> object:
        about = {key: shape(item) for key, item in descriptor.items() if key not in {"digest", "size"}}
        digest = str(descriptor["digest"])
        # An index of cache points to layers.
        manifest = "manifest" in str(descriptor["mediaType"]) or "index" in str(descriptor["mediaType"])
        return (about, self.described(digest)) if manifest else about

    def _get(self, path: str) -> bytes | None:
        connection = HTTPConnection(self.host, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", f"/v2/{self.name}/{path}", headers={"Accept": _ACCEPTED})
            response = connection.getresponse()
            raw = response.read()
            return raw if response.status == 200 else None


# Ours asks the same without showing it as a step: what the daemon has recorded, and for the Dockerfile at a URL.
_UNSHOWN = re.compile(r"resolving provenance for metadata file|\[internal\] load https?://")


def _steps(text: str) -> set[str]:
    """Name the steps that plain or raw progress tells of."""
    if text.startswith("{"):
        return set(_steps_of_raw(text))
    first: dict[str, str] = {}
    for number, line in _STEP.findall(text):
        first.setdefault(number, line)
    return {_named(name) for number, name in first.items() if number != "0" and not _UNSHOWN.match(name)}


def _steps_of_raw(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("{"):
            yield from (_named(step["name"]) for step in json.loads(line).get("vertexes") or [])


def _named(step: str) -> str:
    # Two platforms share a step that needs no program, and either may give it its name.
    return re.sub(r"^\[linux/\S+", "[PLATFORM", scrub(step))


def _cached(text: str) -> set[str]:
    first: dict[str, str] = {}
    for number, line in _STEP.findall(text):
        first.setdefault(number, line)
    return {_named(first[number]) for number, line in _STEP.findall(text) if line == "CACHED"}
