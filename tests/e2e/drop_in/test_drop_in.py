"""The same command line through ``docker buildx build`` and through ``buildkit-session build``: the same result.

Both run in a copy of the same folder, against the same daemon, the reference client first: what it builds is in the
daemon's cache when ours comes, so ours gets the same layers only if it sends the same files and asks for the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from drop_in_cases import CASES, Aspect, Case, Kind
from drop_in_contexts import CONTEXTS, lay, packed
from drop_in_runs import Attempt, Client, Peer, Surroundings, differences, observe

from buildkit_session.testing.companion import companion
from buildkit_session.testing.isolated import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from buildkit_session.testing import Buildkitd, Daemon, ReferenceClient, Registry

_ENGINES: dict[Kind, str] = {"20.10": "docker-20.10", "classic": "docker-newest", "c8d": "docker-containerd"}
_SCANNER = """\
FROM scratch
COPY busybox /bin/busybox
COPY scan /scan
ENTRYPOINT ["/bin/busybox", "sh", "/scan"]
"""
_SCAN = """\
echo '{"predicateType": "https://spdx.dev/Document", "predicate": {}}' >"$BUILDKIT_SCAN_DESTINATION/made.spdx.json"
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Say nothing."""


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def _git_daemon(home: Path, files: Mapping[str, str]) -> Iterator[str]:
    repository = home / "files.git"
    _write(repository, files)
    _git(repository, "init", "--quiet", "--initial-branch=master")
    _git(repository, "add", ".")
    _git(repository, "commit", "--quiet", "--message=all")
    _git(repository, "checkout", "--quiet", "-b", "side")
    _write(repository / "dir", {"Dockerfile": "FROM scratch\nCOPY b.txt /of-the-side\n"})
    _write(repository, {"a.txt": "a of the side\n"})
    _git(repository, "add", ".")
    _git(repository, "commit", "--quiet", "--message=side")
    _git(repository, "checkout", "--quiet", "master")
    port = free_port()
    program = Path(subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip())
    options = ["--listen=127.0.0.1", f"--port={port}", "--export-all", f"--base-path={home}", str(home)]
    with companion([str(program / "git-daemon"), *options], port, home / "git.log"):
        yield f"git://127.0.0.1:{port}/files.git"


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _git(repository: Path, *words: str) -> None:
    named = {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(repository), **named}
    subprocess.run(["git", *words], cwd=repository, env=environment, check=True, capture_output=True)


@contextmanager
def _ssh_agent(socket: Path) -> Iterator[Path]:
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        while not socket.exists():
            assert agent.poll() is None, "ssh-agent has ended"
            time.sleep(0.01)
        yield socket
        agent.terminate()


@pytest.fixture(scope="session")
def surroundings(
    c8d_daemon: Daemon,
    registry: Registry,
    reference: ReferenceClient,
    busybox: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Surroundings]:
    """What the command lines talk to: a registry with two images, a repository, a web server and an ssh agent."""
    home = tmp_path_factory.mktemp("surroundings")
    base, scanner, layout = f"{registry.host}/base:1", f"{registry.host}/scanner:1", home / "layout"
    lay(home / "base", "files", busybox)
    bare = ("--provenance=false", "--push")
    reference.build(c8d_daemon.address, *bare, "-t", base, home / "base/context")
    reference.build(c8d_daemon.address, f"--output=type=oci,tar=false,dest={layout}", home / "base/context")
    _write(home / "scanner", {"Dockerfile": _SCANNER, "scan": _SCAN})
    shutil.copy(busybox, home / "scanner")
    reference.build(c8d_daemon.address, *bare, "-t", scanner, home / "scanner")
    site = home / "site"
    _write(site, {"Dockerfile": "FROM scratch\nCOPY a.txt /by-url\n", "a.txt": "a of the web\n"})
    _write(site, {"Dockerfile.plain": "FROM scratch\nWORKDIR /plain\n"})
    (site / "context.tar").write_bytes(packed(home / "base/context"))
    with ExitStack() as stack:
        yield Surroundings(
            registry_host=registry.host,
            base=base,
            scanner=scanner,
            git=stack.enter_context(_git_daemon(home / "git", CONTEXTS["files"])),
            http=stack.enter_context(_serving(site)),
            agent=stack.enter_context(_ssh_agent(home / "agent")),
            layout=layout,
            busybox=busybox,
        )


class Peers:
    """The daemons that have been asked for, each with settings of its own for each client."""

    def __init__(self, reference: ReferenceClient, folder: Path) -> None:
        self._reference = reference
        self._folder = folder
        self._known: dict[Kind, Peer] = {}

    def get(self, kind: Kind, address: str) -> Peer:
        if kind not in self._known:
            self._known[kind] = self._make(kind, address)
        return self._known[kind]

    def _make(self, kind: Kind, address: str) -> Peer:
        homes: dict[Client, Path] = {"theirs": self._folder / kind / "theirs", "ours": self._folder / kind / "ours"}
        homes["ours"].mkdir(parents=True)
        (homes["theirs"] / "cli-plugins").mkdir(parents=True)
        (homes["theirs"] / "cli-plugins/docker-buildx").symlink_to(self._reference.buildx)
        if kind == "buildkitd":
            environment = {"HOME": str(homes["theirs"]), "DOCKER_CONFIG": str(homes["theirs"])}
            words = ("buildx", "create", "--name=it", "--driver=remote", address)
            assert self._reference.run_in(environment, *words).returncode == 0
        return Peer(kind, address, homes, self._reference)


@pytest.fixture(scope="session")
def peers(reference: ReferenceClient, tmp_path_factory: pytest.TempPathFactory) -> Peers:
    """The daemons of all cases."""
    return Peers(reference, tmp_path_factory.mktemp("peers"))


@pytest.fixture
def peer(kind: Kind, peers: Peers, engine_named: Callable[[str], Daemon], request: pytest.FixtureRequest) -> Peer:
    """The daemon that a case runs on."""
    if kind in _ENGINES:
        return peers.get(kind, engine_named(_ENGINES[kind]).address)
    buildkitd: Buildkitd = request.getfixturevalue("buildkitd")
    return peers.get(kind, buildkitd.address)


def _expected(case: Case, theirs: Mapping[Aspect, object]) -> dict[str, object]:
    """Name what the reference client itself did otherwise than the case says."""
    files, images, pushed = theirs["files"], theirs["images"], theirs["pushed"]
    assert isinstance(files, dict)
    assert isinstance(images, dict)
    assert isinstance(pushed, dict)
    found = {
        "exit": None if theirs["exit"] == case.exit else theirs["exit"],
        "complaint": None if theirs["complaint"] else case.complaint,
        "missing files": sorted(set(case.makes) - set(files)),
        "missing images": [
            name for name, found in (*images.items(), *pushed.items()) if found is None and not case.exit
        ],
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


_PAIRS = [pytest.param(case, kind, id=f"{case.name}-{kind}") for case in CASES for kind in case.on]


@pytest.mark.parametrize(("case", "kind"), _PAIRS)
def test_the_same_command_line_does_the_same(
    case: Case, kind: Kind, peer: Peer, surroundings: Surroundings, tmp_path: Path
) -> None:
    """First the reference client does what the case says; then ours does what the reference client did."""
    theirs = observe(Attempt(case, "theirs", peer, surroundings, tmp_path / "theirs/work"))
    assert not (unexpected := _expected(case, theirs)), f"{unexpected}\n{theirs['stderr']}"
    ours = observe(Attempt(case, "ours", peer, surroundings, tmp_path / "ours/work"))
    assert not (found := differences(case, theirs, ours)), f"{found}\n{ours['stderr']}"
