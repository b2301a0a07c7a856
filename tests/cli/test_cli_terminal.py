"""The terminal display for real: a build of a daemon, on a pseudo-terminal that an emulator reads."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Self

import pytest
from terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; /bin/busybox sleep 0.3; done; exit CODE"]
"""
PROGRAM = """\
import dataclasses, os, sys
from buildkit_session.cli import build, building
from buildkit_session.cli.flags import parse
options = build.read_options(parse(build.FLAGS, sys.argv[1:]), os.environ)
sys.exit(building.run(dataclasses.replace(options, progress="tty")))
"""


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    shutil.copy(busybox, tmp_path / "busybox")
    return tmp_path


class Session:
    """A build in a process of its own, and the screen that shows it."""

    def __init__(self, daemon: Daemon, context: Path, code: int) -> None:
        (context / "Dockerfile").write_text(DOCKERFILE.replace("CODE", str(code)))
        self.screen = Terminal(200, 40)
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, 200))
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("BUILDKIT_", "NO_COLOR"))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "--network=none", "--no-cache", str(context)],
            env=environ | {"DOCKER_HOST": daemon.address, "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def read(self) -> bool:
        """Show what was written since; return whether more may come."""
        try:
            data = os.read(self._ours, 1 << 20)
        except OSError:  # Linux: nobody holds the other end any more
            return False
        self.screen.write(data.decode())
        return bool(data)

    def watch(self) -> int:
        while self.read():
            pass
        return self._process.wait()


def test_a_build_ends_with_one_frame(daemon: Daemon, context: Path) -> None:
    with Session(daemon, context, 0) as session:
        assert session.watch() == 0
        lines = session.screen.lines
        assert "FINISHED" in lines[0]
        assert lines[0].endswith("docker")
        assert sum("[2/2] RUN" in line for line in lines) == 1
        assert "exporting to image" in "".join(lines)
        assert not any(line.startswith(" => => # ") for line in lines)
        assert session.screen.scrolled == []
        assert session.screen.cursor_shown


def test_a_failed_step_repeats_its_output(daemon: Daemon, context: Path) -> None:
    with Session(daemon, context, 3) as session:
        assert session.watch() == 1
        lines = session.screen.lines
        assert any(line.startswith(" => ERROR [2/2] RUN") for line in lines)
        begin = lines.index("------")
        assert [line.split(" ", 1)[1] for line in lines[begin + 2 : begin + 7]] == [f"line {n}" for n in range(1, 6)]
        assert "ERROR: failed to build: failed to solve: " in "".join(lines[-4:])


def test_output_is_seen_while_the_step_runs(daemon: Daemon, context: Path) -> None:
    with Session(daemon, context, 0) as session:
        while not any(line.startswith(" => => # line 3") for line in session.screen.lines):
            assert session.read()
        assert " => => # line 2" in session.screen.lines
        assert session.watch() == 0
