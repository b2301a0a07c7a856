"""What else tests run against: another image store, BuildKit without Docker, and a stand-in for it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from buildkit_session.testing import (
    Api,
    Buildkitd,
    Daemon,
    DaemonUnavailable,
    ReferenceClient,
    Refused,
    Unavailable,
    find_buildkit,
    start_daemon,
)
from buildkit_session.testing.go_program import GoModule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    with reference.environment("unix:///nowhere") as environment:
        created = reference.run_in(environment, "buildx", "create", "--name=it", "--driver=remote", *options, address)
        assert created.returncode == 0, created.stderr

        def run(*words: str | Path) -> CompletedProcess[bytes]:
            return reference.run_in(environment, "buildx", "--builder=it", *words)

        yield run


def test_containerds_store_exports_what_the_classic_one_cannot(
    c8d_daemon: Daemon, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """Two outputs at once, one of them an OCI layout."""
    outputs = [f"--output=type=oci,dest={tmp_path / 'oci.tar'}", f"--output=type=local,dest={tmp_path / 'out'}"]
    reference.build(c8d_daemon.address, *outputs, context)
    assert (tmp_path / "oci.tar").stat().st_size
    assert (tmp_path / "out/made").read_text() == "built\n"


@pytest.mark.usefixtures("private_daemons")
def test_the_oldest_daemon_has_no_other_store() -> None:
    """It says so itself, rather than start with the one it has."""
    with pytest.raises(DaemonUnavailable, match="unknown flag: --feature"), start_daemon("20.10", store="containerd"):
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
    assert module.built() == tmp_path / "go/thing-v1.0.0"
