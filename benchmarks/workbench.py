"""What the rings share: how much to do, where results go, one daemon for all, a folder for data."""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from benchmarks.machine import available_memory, file_system
from benchmarks.results import Results
from buildkit_session.testing import Daemon, ReferenceClient, Unavailable, reference_client, start_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

__all__ = ["OutOfTimeError", "Workbench", "workbench"]

_T = TypeVar("_T")

PACKAGE: Final = Path(__file__).parent.parent / "buildkit_session"
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made below it


class OutOfTimeError(Exception):
    """What is left is not begun, so that the whole ends in time."""

    def __str__(self) -> str:
        return "the time for the whole benchmark was used up"


class Workbench:
    """One run of the benchmark.

    Attributes:
        scale: how much to do.
        results: what was found, filled by the rings.
        folder: for contexts and exports, beside the daemon's own data.
        address: of the daemon, once it is started.
    """

    def __init__(self, scale: Scale, folder: Path, stack: ExitStack) -> None:
        self.scale = scale
        self.results = Results()
        self.folder = folder
        self.address = f"unix://{folder / 'docker.sock'}"
        self._start = time.monotonic()
        self._daemon: Daemon | Unavailable | None = None
        self._daemon_stack = stack.enter_context(ExitStack())
        self._reference: ReferenceClient | Unavailable | None = None

    @property
    def started_daemon(self) -> Daemon | None:
        """The daemon, if any ring has asked for it."""
        return self._daemon if isinstance(self._daemon, Daemon) else None

    @property
    def found_reference(self) -> ReferenceClient | None:
        """The docker CLI, if any ring has asked for it."""
        return self._reference if isinstance(self._reference, ReferenceClient) else None

    def daemon(self) -> Daemon:
        """The newest daemon that runs here, started for this benchmark alone: its caches are emptied again and again.

        Raises:
            Unavailable: none can be had.
        """
        if self._daemon is None:
            self.say("starting a daemon")
            listen = start_daemon("newest", extra_args=["-H", self.address], directory=self.folder)
            try:
                self._daemon = self._daemon_stack.enter_context(listen)
            except Unavailable as reason:
                self._daemon = reason
        return _have(self._daemon)

    def renew_daemon(self) -> None:
        """Kill the daemon and start another, at the same address, that knows nothing."""
        if (pid := self.daemon().pid) is not None:
            # Politely it would wait for the build that nobody waits for.
            os.kill(pid, signal.SIGKILL)
        self._daemon_stack.close()
        self._daemon = None
        self.daemon()

    def reference(self) -> ReferenceClient:
        """The docker CLI with buildx.

        Raises:
            Unavailable: it cannot be had.
        """
        if self._reference is None:
            try:
                self._reference = reference_client()
            except Unavailable as reason:
                self._reference = reason
        return _have(self._reference)

    @property
    def time_is_up(self) -> bool:
        """Whether nothing longer should be begun."""
        return time.monotonic() > self._start + self.scale.patience

    def check_time(self) -> None:
        """Ask before something longer is begun.

        Raises:
            OutOfTimeError: there is no time left for it.
        """
        if self.time_is_up:
            raise OutOfTimeError

    def say(self, text: str) -> None:
        """Tell the person who waits what is going on."""
        print(f"{time.monotonic() - self._start:6.0f} s  {text}", file=sys.stderr, flush=True)


def _have(found: _T | Unavailable) -> _T:
    if isinstance(found, Unavailable):
        raise found
    return found


@contextmanager
def workbench(scale: Scale) -> Iterator[Workbench]:
    """Set a workbench up, and leave nothing behind."""
    # As pip does when it installs: where Python may write no bytecode, every start would compile what has changed.
    compileall.compile_dir(PACKAGE, quiet=1)
    folder = Path(tempfile.mkdtemp(prefix="bks-bench-", dir=_roomy_folder(scale.disk_bytes)))
    try:
        with ExitStack() as stack:
            yield Workbench(scale, folder, stack)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _roomy_folder(size: int) -> str | None:
    """Choose memory where all data fits there twice, so that no disk is measured; else the temporary folder."""
    for folder in (SHARED_MEMORY, Path(tempfile.gettempdir())):
        if not os.access(folder, os.W_OK) or file_system(folder) != "tmpfs":
            continue
        if min(shutil.disk_usage(folder).free, available_memory()) > 2 * size:
            return str(folder)
    return None
