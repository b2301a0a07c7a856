"""What ``docker login`` has left is used as ``docker buildx`` uses it: to pull, to push, and for a cache."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from drop_in_runs import Client, Peer, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drop_in_cases import Kind

    from buildkit_session.testing import Buildkitd, Daemon, ReferenceClient, Registry, TokenServer

ENGINES: dict[Kind, str] = {"20.10": "docker-20.10", "classic": "docker-newest", "c8d": "docker-containerd"}
CLIENTS: tuple[Client, ...] = ("theirs", "ours")
REFRESH = "refresh-token-of-alice"
HELPER = """\
#!/bin/sh
read -r host
echo "$1 $host" >>{log}
if [ "$host" = "{host}" ]; then
    echo '{{"ServerURL": "{host}", "Username": "{user}", "Secret": "{secret}"}}'
else
    echo "credentials not found in native keychain"
    exit 1
fi
"""


@pytest.fixture
def tokens(token_registry: tuple[Registry, TokenServer]) -> Iterator[TokenServer]:
    server = token_registry[1]
    server.identities[REFRESH] = "alice"
    yield server
    server.identities.clear()
    server.granted.clear()
    server.refused.clear()


@pytest.fixture
def registry(login: str, private_registry: Registry, token_registry: tuple[Registry, TokenServer]) -> Registry:
    """One that wants a password, or one that wants tokens."""
    return token_registry[0] if "identity" in login else private_registry


class Machine:
    """A home with logins, and a helper program in the path."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.log = folder / "helper.log"
        self._programs = folder / "programs"
        self._programs.mkdir()

    @property
    def path(self) -> str:
        return f"{self._programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    def settle(self, settings: object) -> None:
        (self.home / "config.json").write_text(json.dumps(settings))

    def keep(self, host: str, user: str, secret: str) -> None:
        """Have a helper program know a login."""
        program = self._programs / "docker-credential-of-the-test"
        program.write_text(HELPER.format(log=self.log, host=host, user=user, secret=secret))
        program.chmod(0o755)

    def asked(self) -> set[str]:
        """What the helper was asked since this was last called."""
        found = set(self.log.read_text().splitlines()) if self.log.exists() else set()
        self.log.unlink(missing_ok=True)
        return found


@pytest.fixture
def machine(tmp_path: Path, reference: ReferenceClient) -> Machine:
    machine = Machine(tmp_path)
    (machine.home / "cli-plugins").mkdir()
    (machine.home / "cli-plugins/docker-buildx").symlink_to(reference.buildx)
    return machine


@pytest.fixture
def peer(
    kind: Kind,
    machine: Machine,
    reference: ReferenceClient,
    engine_named: Callable[[str], Daemon],
    request: pytest.FixtureRequest,
) -> Peer:
    homes: dict[Client, Path] = dict.fromkeys(CLIENTS, machine.home)
    if kind in ENGINES:
        return Peer(kind, engine_named(ENGINES[kind]).address, homes, reference)
    buildkitd: Buildkitd = request.getfixturevalue("buildkitd")
    environment = {"HOME": str(machine.home), "DOCKER_CONFIG": str(machine.home), "PATH": machine.path}
    created = reference.run_in(environment, "buildx", "create", "--name=it", "--driver=remote", buildkitd.address)
    assert created.returncode == 0
    return Peer(kind, buildkitd.address, homes, reference)


def log_in(machine: Machine, login: str, registry: Registry) -> None:
    """Leave a login as docker or its user does."""
    host = registry.host
    match login:
        case "file":
            password = b64encode(f"{registry.user}:{registry.password}".encode()).decode()
            machine.settle({"auths": {host: {"auth": password}}})
        case "helper":
            machine.keep(host, registry.user, registry.password)
            machine.settle({"credHelpers": {host: "of-the-test"}})
        case "identity token":
            machine.settle({"auths": {host: {"identitytoken": REFRESH}}})
        case "identity token of a helper":
            machine.keep(host, "<token>", REFRESH)
            machine.settle({"credsStore": "of-the-test"})
        case _:
            machine.settle({"auths": {}})


@pytest.fixture
def contexts(tmp_path: Path, busybox: Path) -> Path:
    """The folder of two: an image, and one on top of it."""
    for name, text in (
        ("base", "FROM scratch\nCOPY busybox /bin/\n"),
        ("app", "ARG BASE\nFROM $BASE\nCOPY Dockerfile /\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(text)
    shutil.copy(busybox, tmp_path / "base")
    return tmp_path


def lines(place: str, *, cached: bool) -> Iterator[list[str]]:
    """Push an image; pull it, and push another; with its cache where daemons can export one."""
    base, cache = f"--build-arg=BASE={place}-base", f"type=registry,ref={place}-cache"
    yield ["--push", f"--tag={place}-base", "base"]
    yield ["--push", "--pull", f"--tag={place}-app", base, *([f"--cache-to={cache},mode=max"] if cached else []), "app"]
    if cached:
        yield ["--output=type=cacheonly", f"--cache-from={cache}", base, "app"]


def build(words: list[str], client: Client, peer: Peer, machine: Machine, folder: Path) -> tuple[str, bool, str]:
    """Returns the digest of what was pushed, whether a cache was imported, and what was said of a failure."""
    file = folder / "metadata.json"
    file.unlink(missing_ok=True)
    words = ["--progress=plain", "--provenance=false", f"--metadata-file={file}", *words]
    done = run(words, client, peer, stdin=b"", environment={"PATH": machine.path}, directory=folder)
    said = done.stderr.decode()
    assert REFRESH not in said
    if done.returncode:
        return "", False, said
    digest = json.loads(file.read_text()).get("containerimage.digest", "")
    return digest, "importing cache manifest" in said and "ERROR" not in said, ""


@pytest.mark.parametrize(
    ("login", "kind"),
    [
        *[(login, kind) for login in ("helper", "identity token") for kind in (*ENGINES, "buildkitd")],
        *[("identity token of a helper", kind) for kind in ("classic", "c8d")],
        *[(login, kind) for login in ("file", "none") for kind in ("classic", "buildkitd")],
    ],
)
def test_a_private_registry(  # noqa: PLR0917 - pytest fills them in by name
    login: str, kind: Kind, peer: Peer, machine: Machine, registry: Registry, tokens: TokenServer, contexts: Path
) -> None:
    """The same images are pushed; the helper is asked by both, and tokens are fetched with what it knows."""
    log_in(machine, login, registry)
    found: dict[Client, list[tuple[str, bool, str]]] = {"theirs": [], "ours": []}
    for client, results in found.items():
        tokens.granted.clear()
        place = f"{registry.host}/alice/{login.replace(' ', '-')}-{kind}-{client}"
        for words in lines(place, cached=kind in {"c8d", "buildkitd"}):
            results.append(build(words, client, peer, machine, contexts))
        assert machine.asked() == ({f"get {registry.host}"} if "helper" in login else set())
        if "identity" in login:
            assert {(grant.user, grant.method) for grant in tokens.granted} == {("alice", "POST")}
    assert not tokens.refused
    if login == "none":
        for _, _, said in (*found["theirs"], *found["ours"]):
            assert re.search(r"(?i)401|unauthorized|denied|authorization|credentials", said), said
        return
    assert found["ours"] == found["theirs"]
    assert [digest.startswith("sha256:") for digest, _, _ in found["ours"][:2]] == [True, True]
    assert all(imported for _, imported, _ in found["ours"][2:])
