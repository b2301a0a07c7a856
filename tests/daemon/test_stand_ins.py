"""What else tests run against: another image store, BuildKit without Docker, and what builds talk to."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from buildkit_session.errors import InputError
from buildkit_session.testing import (
    Api,
    BuilderContainer,
    Buildkitd,
    Daemon,
    ReferenceClient,
    Refused,
    Registry,
    Unavailable,
    find_buildkit,
    find_registry,
    start_daemon,
    start_sshd,
)
from buildkit_session.testing.go_program import GoModule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from subprocess import CompletedProcess

_DOCKERFILE = """\
FROM scratch AS work
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "echo built >/made"]
FROM scratch
COPY --from=work /made /
"""


@pytest.fixture
def context(busybox: Path, tmp_path: Path) -> Path:
    """A build that runs a step."""
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(_DOCKERFILE)
    shutil.copy(busybox, folder / "busybox")
    return folder


@contextmanager
def remote_builder(
    reference: ReferenceClient, address: str, *options: str
) -> Iterator[Callable[..., CompletedProcess[bytes]]]:
    """Give a way to run the reference client with the daemon at an address that is no Engine's."""
    with reference.environment("unix:///nowhere") as own:
        created = reference.run_in(own, "buildx", "create", "--name=it", "--driver=remote", *options, address)
        assert created.returncode == 0, created.stderr

        def run(*words: str | Path, environment: Mapping[str, str] | None = None) -> CompletedProcess[bytes]:
            return reference.run_in({**own, **(environment or {})}, "buildx", "--builder=it", *words)

        yield run


def test_containerds_store_exports_what_the_classic_one_cannot(
    c8d_daemon: Daemon, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """Two outputs at once, one of them an OCI layout."""
    outputs = [f"--output=type=oci,dest={tmp_path / 'oci.tar'}", f"--output=type=local,dest={tmp_path / 'out'}"]
    reference.build(c8d_daemon.address, *outputs, context)
    assert (tmp_path / "oci.tar").stat().st_size
    assert (tmp_path / "out/made").read_text() == "built\n"


def test_the_oldest_daemon_has_no_other_store() -> None:
    """It is refused, rather than started with the one it has."""
    with (
        pytest.raises(InputError, match=r"Docker 20\.10 has no containerd image store"),
        start_daemon("20.10", store="containerd"),
    ):
        pass


def test_the_api_tells_what_is_refused(daemon: Daemon) -> None:
    """The status and the words of the daemon."""
    assert Api(daemon.address).call("GET", "/version")["Version"] == daemon.version
    with pytest.raises(Refused, match="no-such-image") as refused:
        Api(daemon.address).call("GET", "/images/no-such-image/json")
    assert refused.value.status == 404


def test_buildkitd_runs_build_steps(
    buildkitd: Buildkitd, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """On its unix socket."""
    with remote_builder(reference, buildkitd.address) as run:
        assert run("build", "--network=none", "-o", tmp_path / "out", context).returncode == 0
    assert (tmp_path / "out/made").read_text() == "built\n"


def test_buildkitd_on_tcp_wants_a_certificate(
    buildkitd: Buildkitd, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """With the client's it builds; nobody gets in without."""
    files, address = buildkitd.certificates, buildkitd.tcp_address
    assert files is not None
    assert address is not None
    options = f"cacert={files.ca},cert={files.cert},key={files.key}"
    with remote_builder(reference, address, f"--driver-opt={options}") as run:
        assert run("build", "--network=none", "-o", tmp_path / "out", context).returncode == 0
    with remote_builder(reference, address) as run:
        assert run("build", "--network=none", "-o", tmp_path / "no", context).returncode == 1
    assert not (tmp_path / "no").exists()


def test_an_engine_behind_a_forwarder_is_a_buildkitd(
    forwarded: str, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """It builds over ``Control.Session``, and answers other calls."""
    with remote_builder(reference, forwarded) as run:
        assert run("build", "--network=none", "-o", tmp_path / "out", context).returncode == 0
        assert b"Total:" in run("du").stdout
    assert (tmp_path / "out/made").read_text() == "built\n"


def test_a_daemon_built_from_source_speaks_http_2_itself(
    native_daemon: Daemon, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """The first bytes of HTTP/2, without any upgrade, are answered in kind; it builds as others do."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(native_daemon.address.removeprefix("unix://"))
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5))
        assert connection.recv(9)[3:9] == b"\4" + bytes(5)  # a SETTINGS frame
    reference.build(native_daemon.address, "-o", tmp_path / "out", context)
    assert (tmp_path / "out/made").read_text() == "built\n"


def test_a_builder_in_a_container_builds(
    builder_container: BuilderContainer, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """The reference client reaches it by way of the Engine."""
    with remote_builder(reference, f"docker-container://{builder_container.name}") as run:
        environment = {"DOCKER_HOST": builder_container.address}
        words = ("build", "--network=none", "-o", tmp_path / "out", context)
        assert run(*words, environment=environment).returncode == 0
    assert (tmp_path / "out/made").read_text() == "built\n"


def test_an_image_travels_over_the_registry(
    c8d_daemon: Daemon, registry: Registry, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """Pushed once, it is there to build on, for a daemon that has forgotten it."""
    name = f"{registry.host}/travels:1"
    reference.build(c8d_daemon.address, "--push", "-t", name, context)
    Api(c8d_daemon.address).call("DELETE", f"/images/{name}?force=true")
    (context / "Dockerfile").write_text(f"FROM {name}\n")
    reference.build(c8d_daemon.address, "-o", tmp_path / "out", context)
    assert (tmp_path / "out/made").read_text() == "built\n"


def test_a_registry_with_a_user_lets_nobody_else_push(
    c8d_daemon: Daemon, private_registry: Registry, reference: ReferenceClient, context: Path
) -> None:
    """Who has logged in pushes; without credentials the reference client fails."""
    words = ("buildx", "build", "--network=none", "--push", "-t", f"{private_registry.host}/shut:1", context)
    with reference.environment(c8d_daemon.address) as environment:
        assert b"401 Unauthorized" in reference.run_in(environment, *words).stderr
        login = ("login", "-u", private_registry.user, "--password-stdin", private_registry.host)
        assert reference.run_in(environment, *login, stdin=private_registry.password.encode()).returncode == 0
        assert reference.run_in(environment, *words).returncode == 0


def test_the_reference_client_builds_over_ssh(
    daemon: Daemon, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """The sessions of the server find the docker program and the daemon."""
    remote = {"PATH": f"{reference.docker.parent}:/usr/bin:/bin", "DOCKER_HOST": daemon.address}
    with start_sshd(environment=remote) as server:
        words = ("buildx", "build", "--network=none", "-o", tmp_path / "out", context)
        reference.run(server.address, *words, environment={"PATH": f"{server.programs}:{os.environ['PATH']}"})
    assert (tmp_path / "out/made").read_text() == "built\n"


def test_ssh_needs_the_key(tmp_path: Path) -> None:
    """Another key, or a password, opens nothing."""
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True, capture_output=True)
    with start_sshd() as server:
        there = ["-p", str(server.port), "127.0.0.1", "echo in"]
        assert subprocess.run([server.programs / "ssh", *there], capture_output=True, check=True).stdout == b"in\n"
        known = f"UserKnownHostsFile={server.known_hosts}"
        with_other = ["ssh", "-F", "/dev/null", "-o", known, "-o", "BatchMode=yes", "-i", str(other)]
        refused = subprocess.run([*with_other, *there], capture_output=True, text=True, check=False)
    assert "Permission denied" in refused.stderr


@pytest.mark.usefixtures("private_daemons")
def test_what_is_not_installed_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server and the registry run from the cache folder as well; nothing starts for the whole machine."""
    monkeypatch.setattr("buildkit_session.testing.sshd.search_path", lambda: "")
    monkeypatch.setattr("buildkit_session.testing.registry.search_path", lambda: "")
    assert subprocess.run([find_registry(), "--version"], capture_output=True, check=True).stdout
    with start_sshd() as server:
        command = [str(server.programs / "ssh"), "-p", str(server.port), "127.0.0.1", "echo in"]
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"in\n"


def test_buildkit_that_was_not_built_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test does not start a build of minutes on its own."""
    monkeypatch.setenv("BUILDKIT_SESSION_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match=r"'python -m buildkit_session\.testing' builds it"):
        find_buildkit()


def test_nothing_is_built_without_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason says what is missing; what was built before is still good."""
    monkeypatch.setenv("BUILDKIT_SESSION_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    module = GoModule("example.org/thing", "v1.0.0", ("cmd/it",), tags=(), version_variable="main.version")
    with pytest.raises(Unavailable, match="no Go toolchain"):
        module.built()
    module.folder.mkdir(parents=True)
    assert module.built() == tmp_path / "go/example.org+thing@v1.0.0"
