"""The daemons that tests run against: they start, they build, and nothing of them stays."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from buildkit_session.errors import InputError
from buildkit_session.testing import (
    Daemon,
    DaemonUnavailable,
    ReferenceClient,
    Unavailable,
    busybox,
    daemon_at,
    find_dockerd,
    start_daemon,
)
from buildkit_session.testing.archive import cache_folder, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUN_IN_AN_EMPTY_IMAGE = """\
FROM scratch AS work
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "echo built >/made"]
FROM scratch
COPY --from=work /made /
"""
_START_AND_WAIT = """\
import sys
from pathlib import Path
from buildkit_session.testing import start_daemon
with start_daemon(directory=Path(sys.argv[1])) as daemon:
    print(daemon.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path leaves room for the sockets of a daemon below it."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.mark.parametrize(
    ("wanted", "store", "message"),
    [
        ("99", "classic", "no daemon '99' to start; name installed, 20.10, newest, built, or a Path"),
        ("newest", "zfs", "no image store 'zfs'; name classic or containerd"),
        ("20.10", "containerd", "Docker 20.10 has no containerd image store"),
    ],
)
def test_daemons_that_there_are_not(wanted: Any, store: Any, message: str) -> None:
    with pytest.raises(InputError, match=message), start_daemon(wanted, store=store):
        pass


@contextmanager
def ends(pid: int, *, within: float = 30) -> Iterator[None]:
    """Expect that the block ends this process, at the latest so many seconds after it."""
    descriptor = os.pidfd_open(pid)
    try:
        yield
        ended, _, _ = select.select([descriptor], [], [], within)
        assert ended, f"process {pid} still runs"
    finally:
        os.close(descriptor)


def mounts_below(folder: Path) -> list[str]:
    return [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]


def test_every_supported_daemon_runs_build_steps(
    daemon: Daemon, reference: ReferenceClient, busybox: Path, tmp_path: Path
) -> None:
    """A build of the reference client runs a step in an image made from nothing."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(_RUN_IN_AN_EMPTY_IMAGE)
    (context / "busybox").write_bytes(busybox.read_bytes())
    (context / "busybox").chmod(0o755)
    reference.build(daemon.address, "-o", f"type=local,dest={tmp_path / 'out'}", context)
    assert (tmp_path / "out/made").read_text() == "built\n"


def test_a_failing_build_of_the_reference_client_shows_its_progress(
    daemon: Daemon, reference: ReferenceClient, tmp_path: Path
) -> None:
    """Without ``check`` the failure is there to look at."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY missing /\n")
    result = reference.build(daemon.address, tmp_path, check=False)
    assert result.returncode == 1
    assert "missing" in result.stderr


def test_a_daemon_answers_on_tcp_too(private_daemon: Daemon) -> None:
    """Both addresses lead to the same daemon."""
    assert private_daemon.tcp_address is not None
    over_tcp = daemon_at(private_daemon.tcp_address, origin="test")
    assert (over_tcp.version, over_tcp.api_version) == (private_daemon.version, private_daemon.api_version)


@pytest.mark.usefixtures("private_daemons")
def test_nothing_of_a_daemon_stays(folder: Path) -> None:
    """After the block its process, mounts and files are gone."""
    with start_daemon(directory=folder) as daemon:
        assert daemon.pid is not None
        pidfd = os.pidfd_open(daemon.pid)
    with os.fdopen(pidfd):
        assert select.select([pidfd], [], [], 0)[0]
    assert not mounts_below(folder)
    assert not list(folder.iterdir())


def test_a_daemon_killed_inside_the_block_is_no_error(private_daemon: Daemon) -> None:
    """Tests of faults may kill it; its address is dead then."""
    assert private_daemon.pid is not None
    with ends(private_daemon.pid):
        os.kill(private_daemon.pid, signal.SIGKILL)
    with pytest.raises(DaemonUnavailable, match="no daemon answers"):
        daemon_at(private_daemon.address, origin="test")


@pytest.mark.usefixtures("private_daemons")
def test_a_daemon_ends_with_the_process_that_started_it(folder: Path) -> None:
    """Even a killed test run leaves no daemon and no mount behind."""
    starter = subprocess.Popen(
        [sys.executable, "-c", _START_AND_WAIT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with starter:
        assert starter.stdout is not None
        with ends(int(starter.stdout.readline())):
            starter.kill()
    assert not mounts_below(folder)


@pytest.mark.usefixtures("private_daemons")
def test_a_failed_start_shows_the_log_and_leaves_nothing(folder: Path) -> None:
    """The reason is in the daemon's own words."""
    with (
        pytest.raises(DaemonUnavailable, match="unknown flag: --no-such-flag"),
        start_daemon(directory=folder, extra_args=["--no-such-flag"]),
    ):
        pass
    assert not list(folder.iterdir())


@pytest.mark.usefixtures("private_daemons")
def test_a_socket_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    """The text gives both lengths and says what to do."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with pytest.raises(DaemonUnavailable, match="104 are allowed: name a shorter"), start_daemon(directory=long):
        pass


def test_a_private_daemon_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other users get the reason, not a crash of dockerd."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DaemonUnavailable, match="needs root, this is user 1000"), start_daemon():
        pass


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b""])
def test_what_is_not_a_docker_daemon_is_called_so(answer: bytes, tmp_path: Path) -> None:
    """Whatever else listens at an address is told from a daemon."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        peer = Thread(target=_answer_once, args=(server, answer))
        peer.start()
        with pytest.raises(DaemonUnavailable, match=r"is not a Docker daemon|no daemon answers"):
            daemon_at(f"unix://{path}", origin="test")
        peer.join()


def _answer_once(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(answer)


@pytest.mark.parametrize("address", ["ssh://host", "tcp://", "/var/run/docker.sock"])
def test_an_address_that_cannot_be_asked_is_refused(address: str) -> None:
    """Only plain Unix and TCP addresses are understood."""
    with pytest.raises(DaemonUnavailable, match="only unix:///path and tcp://host:port"):
        daemon_at(address, origin="test")


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The project's own variable wins over the user's cache folder, that over the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("BUILDKIT_SESSION_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache/buildkit_session"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/buildkit_session")
    monkeypatch.setenv("BUILDKIT_SESSION_CACHE", "/y")
    assert cache_folder() == Path("/y")


def test_a_usable_folder_is_not_fetched_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is in the cache works without apt; what is not cannot be had without it."""
    monkeypatch.setenv("BUILDKIT_SESSION_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    folder = tmp_path / "debian/sid"
    folder.mkdir(parents=True)
    assert unpacked("sid", ["docker.io"], usable=lambda folder: folder.exists()) == folder
    with pytest.raises(Unavailable, match="this machine has no apt-get"):
        unpacked("sid", ["docker.io"], usable=lambda _: False)


def test_no_dockerd_of_an_unknown_name() -> None:
    unknown: Any = "99"
    with pytest.raises(InputError, match=r"no dockerd .99.; name installed, .*newest"):
        next(find_dockerd(unknown))


def test_no_dockerd_gives_the_reason_of_every_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the cache cannot be written, each suite says so."""
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("BUILDKIT_SESSION_CACHE", str(blocked))
    monkeypatch.setattr("buildkit_session.testing.dockerd.search_path", lambda: "")
    with pytest.raises(DaemonUnavailable, match=r"cannot be written.*cannot be written.*has no dockerd"):
        list(find_dockerd("newest"))


@pytest.mark.usefixtures("private_daemons")
def test_a_daemon_that_does_not_start_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The newest falls back to the next that starts, and says what was wrong with the better one."""
    monkeypatch.setenv("BUILDKIT_SESSION_CACHE", str(tmp_path))
    (installed,) = find_dockerd("installed")
    broken = 'test "$1" = --version && echo Docker version 99.0 || { echo ouch; exit 1; }'
    _script(tmp_path / "debian/sid/usr/sbin/dockerd", broken)
    _script(tmp_path / "debian/trixie/usr/sbin/dockerd", f'exec {installed.path} "$@"')
    with start_daemon("newest") as daemon:
        assert (daemon.version, daemon.origin) == (installed.version, "Debian trixie")
        (reason,) = daemon.passed_over
    assert "(Debian sid) ended with status 1; the end of its log:\nouch" in reason


def _script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_only_a_static_busybox_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that needs a dynamic loader does not run in an empty image."""
    (tmp_path / "busybox").write_bytes(Path("/bin/sh").read_bytes())
    monkeypatch.setattr("buildkit_session.testing.machine.search_path", lambda: str(tmp_path))
    with pytest.raises(Unavailable, match="apt-get install busybox-static"):
        busybox()


@pytest.mark.parametrize(("ci", "outcome"), [("", "skipped"), ("true", "error")])
def test_no_daemon_skips_at_home_and_fails_in_ci(ci: str, outcome: str, tmp_path: Path) -> None:
    """A green run in CI has not skipped the daemons."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "supported_daemon", __file__],
        env=os.environ | {"CI": ci, "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert f"1 {outcome}" in run.stdout
    assert f"no daemon answers at unix://{tmp_path}/nobody.sock" in run.stdout
