"""Run a daemon in namespaces of its own and end it without a trace.

The daemon is the first process of a process namespace of its own, in a mount namespace of its own:

.. code-block:: text

    this process ── unshare ── daemon (pid 1 inside) ── its containerd, shims, build steps
         └── pipe: its end of file, when this process dies, ends the daemon

When the daemon ends, the kernel ends every process below it and drops every mount it made; only its directory is left
to remove. An empty /run/containerd hides the machine's own containerd, which dockerd would otherwise share.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from buildkit_session.testing.dockerd import search_path
from buildkit_session.testing.errors import DaemonUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["Isolated", "check_machine", "free_port", "isolated", "state_folder"]

_T = TypeVar("_T")

# Both in seconds. A daemon starts within two on an idle machine and ends within one.
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0
_POLL_INTERVAL = 0.05
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
class Isolated:
    """A daemon that runs, or ran.

    Attributes:
        name: of its program, for people.
        home: the folder with its state.
        process: ends when the last process of the daemon has ended.
    """

    name: str
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        """The file that the daemon logs to."""
        return _log(self.home)

    @property
    def pid(self) -> int | None:
        """The daemon's process id as seen from here; ``None`` where it never got that far."""
        try:
            return int(_pid_file(self.home).read_text())
        except (OSError, ValueError):
            return None

    def first_answer(self, ask: Callable[[], _T]) -> _T:
        """Ask until there is an answer.

        Args:
            ask: raises :class:`DaemonUnavailable` while there is none.

        Raises:
            DaemonUnavailable: the daemon ended or took too long; the text ends with the end of its log.
        """
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                return ask()
            except DaemonUnavailable as silence:
                if self.process.poll() is not None:
                    complaint = f"{self.name} ended with status {self.process.returncode}"
                elif time.monotonic() > deadline:
                    complaint = f"{self.name} did not answer within {_START_TIMEOUT:.0f} s"
                else:
                    time.sleep(_POLL_INTERVAL)
                    continue
                tail = self.log.read_text(errors="replace")[-_LOG_TAIL:]
                raise DaemonUnavailable(f"{complaint}; the end of its log:\n{tail}") from silence


def check_machine(tools: Iterable[str]) -> None:
    """Make sure that this machine lets a private daemon run.

    Args:
        tools: programs that it needs.

    Raises:
        DaemonUnavailable: it does not; the text says what would help.
    """
    if os.geteuid() != 0:
        raise DaemonUnavailable(f"a private daemon needs root, this is user {os.geteuid()}")
    for tool in ("unshare", *tools):
        if shutil.which(tool, path=search_path()) is None:
            raise DaemonUnavailable(f"a private daemon needs {tool} (on Debian and Ubuntu: apt-get install docker.io)")
    if not _root_is_a_mount():
        # runc could not run a build step here either.
        raise DaemonUnavailable(
            "a private daemon needs a root folder that is a mount point: "
            "for a chroot, 'mount --bind FOLDER FOLDER' before entering it"
        )


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def state_folder(directory: Path | None = None) -> Iterator[Path]:
    """Make a folder for a daemon's state, and remove it with the block.

    Args:
        directory: where to make it; the default is the system's temporary folder.
    """
    # Not fixed: an earlier run may have been killed and have left its own behind.
    home = Path(tempfile.mkdtemp(prefix="bks-", dir=directory))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def isolated(
    name: str, command: Sequence[str | Path], home: Path, *, environment: Mapping[str, str]
) -> Iterator[Isolated]:
    """Start a daemon, and end it with the block or with this process, however that one ends.

    Args:
        name: of the daemon, for people.
        command: the program and its arguments.
        home: the folder for its state; its log goes there too.
        environment: of the daemon.
    """
    namespaces = ["unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child"]
    launch = ["sh", "-c", _LAUNCH, "launch", _pid_file(home), *command]
    with _log(home).open("wb") as log:
        process = subprocess.Popen(
            [*namespaces, *launch],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            # A Ctrl-C in the terminal is for the tests; they end the daemon in their own order.
            start_new_session=True,
        )
    daemon = Isolated(name, home, process)
    with process:
        try:
            yield daemon
        finally:
            _end(daemon)


def _root_is_a_mount() -> bool:
    """Tell a plain chroot from a root file system; the fifth field is the mount point (proc_pid_mountinfo(5))."""
    return any(line.split()[4] == "/" for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _end(daemon: Isolated) -> None:
    """End the daemon, politely first; unshare returns when the last process inside is gone."""
    process = daemon.process
    if process.poll() is not None:
        return
    if (pid := daemon.pid) is None:
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


def _pid_file(home: Path) -> Path:
    return home / "outer-pid"
