"""Start a private Docker daemon and end it without a trace.

The daemon is the first process of a process namespace of its own, in a mount namespace of its own:

.. code-block:: text

    this process ── unshare ── dockerd (pid 1 inside) ── containerd, shims, build steps
         └── pipe: its end of file, when this process dies, ends dockerd

When dockerd ends, the kernel ends every process below it and drops every mount it made; only the directory is left to
remove. An empty /run/containerd hides the machine's own containerd, which dockerd would otherwise share.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.testing.dockerd import Dockerd, Wanted, find_dockerd, search_path
from buildkit_session.testing.errors import DaemonUnavailable
from buildkit_session.testing.probe import Answer, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Daemon", "daemon_at", "start_daemon"]

# Both in seconds. A daemon starts within two on an idle machine and ends within one.
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0
_POLL_INTERVAL = 0.05
# Bytes: containerd refuses a longer path for a socket, and this is its longest. dockerd then waits 15 s for it,
# and does not say why.
_LONGEST_SOCKET_PATH = 104
_LONGEST_SOCKET = "exec/containerd/containerd.sock.ttrpc"
_LOG_TAIL = 3000

# Runs inside the new namespaces: $1 is the file for the pid as seen outside (/proc is still the old one), the rest is
# the command.
_LAUNCH = """
set -e
read -r pid _ </proc/self/stat
echo "$pid" >"$1"
shift
mount -t proc proc /proc
mkdir -p /run/containerd
mount -t tmpfs tmpfs /run/containerd
exec 3<&0 </dev/null
{ read -r _ || kill -TERM 1; } <&3 &
exec 3<&-
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A Docker daemon that answers.

    Attributes:
        address: ``unix:///path``, or what :func:`daemon_at` was given.
        version: of the Engine, such as ``28.5.2+dfsg4``.
        api_version: the newest API version it speaks, such as ``1.51``.
        origin: where it comes from, for people: ``installed``, ``Debian sid``, ``DOCKER_HOST``.
        passed_over: why each better one was not taken, for people.
        tcp_address: ``tcp://127.0.0.1:port`` where it was started with ``tcp=True``.
        pid: the process id of a private daemon's dockerd.
        log: the file a private daemon logs to.
    """

    address: str
    version: str
    api_version: str
    origin: str
    passed_over: tuple[str, ...] = ()
    tcp_address: str | None = None
    pid: int | None = None
    log: Path | None = None


def daemon_at(address: str, *, origin: str) -> Daemon:
    """Describe a daemon that runs already.

    Args:
        address: ``unix:///path`` or ``tcp://host:port`` (without TLS).
        origin: who named the address, for people.

    Raises:
        DaemonUnavailable: nobody answers there.
    """
    answer = probe(address)
    return Daemon(address=address, version=answer.version, api_version=answer.api_version, origin=origin)


@contextmanager
def start_daemon(
    wanted: Wanted | Path = "installed",
    *,
    tcp: bool = False,
    extra_args: Sequence[str] = (),
    directory: Path | None = None,
) -> Iterator[Daemon]:
    """Start a private daemon, wait until it answers, and end it with the block.

    It has no network of its own and touches none: build with network ``none``. The block may end it early by its
    ``pid``.

    Args:
        wanted: which daemon (see the package), or the path of a ``dockerd``.
        tcp: listen on a free port of 127.0.0.1 too, without TLS: until the end, every user of this machine can become
            root by it.
        extra_args: more arguments for ``dockerd``.
        directory: where its state is kept while it runs, in a folder of its own; the default is the system's temporary
            folder.

    Raises:
        DaemonUnavailable: no such daemon can be had here, or none of them started.
    """
    _check_machine()
    candidates = [Dockerd(wanted, "", str(wanted))] if isinstance(wanted, Path) else find_dockerd(wanted)
    tcp_address = f"tcp://127.0.0.1:{_free_port()}" if tcp else None
    # Without --tls=false, Docker 20.10 warns and waits a second for every TCP address.
    listen = ["-H", tcp_address, "--tls=false"] if tcp_address else []
    start = partial(_running, tcp_address=tcp_address, extra_args=[*listen, *extra_args], directory=directory)
    with ExitStack() as stack:
        yield _first_that_starts(candidates, start, stack)


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise DaemonUnavailable(f"a private daemon needs root, this is user {os.geteuid()}")
    for tool in ("unshare", "containerd", "runc"):
        if shutil.which(tool, path=search_path()) is None:
            raise DaemonUnavailable(f"a private daemon needs {tool} (on Debian and Ubuntu: apt-get install docker.io)")
    if not _root_is_a_mount():
        # runc could not run a build step here either.
        raise DaemonUnavailable(
            "a private daemon needs a root folder that is a mount point: "
            "for a chroot, 'mount --bind FOLDER FOLDER' before entering it"
        )


def _root_is_a_mount() -> bool:
    """Tell a plain chroot from a root file system; the fifth field is the mount point (proc_pid_mountinfo(5))."""
    return any(line.split()[4] == "/" for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _first_that_starts(
    candidates: Iterable[Dockerd], start: Callable[[Dockerd], AbstractContextManager[Daemon]], stack: ExitStack
) -> Daemon:
    failures: list[DaemonUnavailable] = []
    for dockerd in candidates:
        try:
            daemon = stack.enter_context(start(dockerd))
        except DaemonUnavailable as failure:
            failures.append(failure)
        else:
            return replace(daemon, passed_over=(*dockerd.passed_over, *map(str, failures)))
    raise DaemonUnavailable("\n".join(map(str, failures))) from failures[-1]


@contextmanager
def _running(
    dockerd: Dockerd, *, tcp_address: str | None, extra_args: Sequence[str], directory: Path | None
) -> Iterator[Daemon]:
    # Not fixed: an earlier run may have been killed and have left its own behind.
    home = Path(tempfile.mkdtemp(prefix="bks-", dir=directory))
    try:
        _check_length(home)
        address = f"unix://{home / 'docker.sock'}"
        with _process(dockerd, [*_arguments(home, address), *extra_args], home) as process:
            answer = _first_answer(process, address, dockerd, home)
            yield Daemon(
                address=address,
                version=answer.version,
                api_version=answer.api_version,
                origin=dockerd.origin,
                tcp_address=tcp_address,
                pid=_pid(home),
                log=_log(home),
            )
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _check_length(home: Path) -> None:
    path = home / _LONGEST_SOCKET
    if (length := len(os.fsencode(path))) > _LONGEST_SOCKET_PATH:
        raise DaemonUnavailable(
            f"the socket {path} would have a path of {length} bytes, {_LONGEST_SOCKET_PATH} are allowed: "
            "name a shorter directory"
        )


def _arguments(home: Path, address: str) -> list[str]:
    # The machine's own /etc/docker/daemon.json is for the machine's own daemon.
    settings = home / "daemon.json"
    settings.write_text("{}")
    return [
        f"--config-file={settings}",
        *("-H", address),
        *("--data-root", str(home / "data")),
        *("--exec-root", str(home / "exec")),
        *("-p", str(home / "pid")),
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
    ]


@contextmanager
def _process(dockerd: Dockerd, arguments: Sequence[str], home: Path) -> Iterator[subprocess.Popen[bytes]]:
    namespaces = ["unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child"]
    launch = ["sh", "-c", _LAUNCH, "launch", str(_pid_file(home)), str(dockerd.path), *arguments]
    with _log(home).open("wb") as log:
        process = subprocess.Popen(
            [*namespaces, *launch],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(dockerd),
            # A Ctrl-C in the terminal is for the tests; they end the daemon in their own order.
            start_new_session=True,
        )
    with process:
        try:
            yield process
        finally:
            _end(process, home)


def _environment(dockerd: Dockerd) -> dict[str, str]:
    # A daemon brings docker-proxy and docker-init of its own version along.
    own = (dockerd.path.parent, dockerd.path.parent.parent / "bin")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    return inherited | {"PATH": os.pathsep.join([*map(str, own), search_path()])}


def _first_answer(process: subprocess.Popen[bytes], address: str, dockerd: Dockerd, home: Path) -> Answer:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            return probe(address)
        except DaemonUnavailable as silence:
            if process.poll() is not None:
                complaint = f"{dockerd.path} ({dockerd.origin}) ended with status {process.returncode}"
            elif time.monotonic() > deadline:
                complaint = f"{dockerd.path} ({dockerd.origin}) did not answer within {_START_TIMEOUT:.0f} s"
            else:
                time.sleep(_POLL_INTERVAL)
                continue
            raise DaemonUnavailable(f"{complaint}; the end of its log:\n{_log_tail(home)}") from silence


def _end(process: subprocess.Popen[bytes], home: Path) -> None:
    """End dockerd, politely first; unshare returns when the last process inside is gone."""
    if process.poll() is not None:
        return
    pid = _pid(home)
    if pid is None:
        process.kill()
        return
    for number, patience in ((signal.SIGTERM, _STOP_TIMEOUT), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def _log(home: Path) -> Path:
    return home / "log"


def _log_tail(home: Path) -> str:
    return _log(home).read_text(errors="replace")[-_LOG_TAIL:]


def _pid_file(home: Path) -> Path:
    return home / "outer-pid"


def _pid(home: Path) -> int | None:
    """Read dockerd's process id as seen from here; ``None`` where it never got that far."""
    try:
        return int(_pid_file(home).read_text())
    except (OSError, ValueError):
        return None
