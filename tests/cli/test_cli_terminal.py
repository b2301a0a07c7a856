"""The terminal display for real: a build of a daemon, on a pseudo-terminal that an emulator reads."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Self

import pytest
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; /bin/busybox sleep 0.3; done; exit CODE"]
"""
PROGRAM = """\
import os, sys
from buildkit_session.cli import build, building
from buildkit_session.cli.flags import parse
options = build.read_options(parse(build.FLAGS, sys.argv[1:]), os.environ)
sys.exit(building.run(options._replace(progress="tty")))
"""


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    shutil.copy(busybox, tmp_path / "busybox")
    return tmp_path


class Session:
    """A program that shows a build, in a process of its own, and the screen it is shown on."""

    def __init__(self, program: Sequence[str], environ: Mapping[str, str]) -> None:
        self.screen = Terminal(200, 40)
        self.text = ""
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, 200))
        self._process = subprocess.Popen(
            program, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def read(self) -> bool:
        """Take in what was written since; return whether more may come."""
        try:
            text = os.read(self._ours, 1 << 20).decode()
        except OSError:  # Linux: nobody holds the other end any more
            return False
        self.text += text
        return bool(text)

    def watch(self) -> int:
        """Take in the rest; return the exit code."""
        while self.read():
            pass
        return self._process.wait()

    def look(self) -> Terminal:
        """Show what was taken in."""
        self.screen.write(self.text)
        self.text = ""
        return self.screen


def ours(daemon: Daemon, context: Path, code: int) -> Session:
    (context / "Dockerfile").write_text(DOCKERFILE.replace("CODE", str(code)))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("BUILDKIT_", "NO_COLOR"))}
    environ |= {"DOCKER_HOST": daemon.address, "TERM": "xterm"}
    return Session([sys.executable, "-c", PROGRAM, "--network=none", "--no-cache", str(context)], environ)


def test_a_build_ends_with_one_frame(daemon: Daemon, context: Path) -> None:
    with ours(daemon, context, 0) as session:
        assert session.watch() == 0
        screen = session.look()
    assert "FINISHED" in screen.lines[0]
    assert screen.lines[0].endswith("docker:default")
    assert sum("[2/2] RUN" in line for line in screen.lines) == 1
    assert not any(line.startswith(" => => # ") for line in screen.lines)
    assert screen.scrolled == []
    assert screen.cursor_shown


def test_a_failed_step_repeats_its_output(daemon: Daemon, context: Path) -> None:
    with ours(daemon, context, 3) as session:
        assert session.watch() == 1
        lines = session.look().lines
    assert any(line.startswith(" => ERROR [2/2] RUN") for line in lines)
    begin = lines.index("------")
    assert [line.split(" ", 1)[1] for line in lines[begin + 2 : begin + 7]] == [f"line {n}" for n in range(1, 6)]
    assert "ERROR: failed to build: failed to solve: " in "".join(lines[-4:])


def test_output_is_seen_while_the_step_runs(daemon: Daemon, context: Path) -> None:
    with ours(daemon, context, 0) as session:
        while " => => # line 3" not in session.look().lines:
            assert session.read()
        assert " => => # line 2" in session.screen.lines
        assert session.watch() == 0


def test_the_last_frame_has_the_lines_of_buildx(daemon: Daemon, context: Path, reference: ReferenceClient) -> None:
    with ours(daemon, context, 0) as session:
        session.watch()
        found = last_frame(session.text)
    with reference.environment(daemon.address) as environ:
        program = [
            str(reference.docker),
            "buildx",
            "build",
            "--progress=tty",
            "--network=none",
            "--no-cache",
            str(context),
        ]
        with Session(program, {**environ, "TERM": "xterm"}) as session:
            session.watch()
            expected = last_frame(session.text)
    assert "FINISHED" in expected[0]
    assert expected[0].endswith("docker:default")
    assert found[0].replace(" ", "") == expected[0].replace(" ", "")
    assert sorted(found[1:]) == sorted(expected[1:])


def last_frame(text: str) -> list[str]:
    """The lines of the last frame without colours, with sizes, times and digests that differ from build to build."""
    frame = text[text.rindex("\x1b[?25l") : text.rindex("\x1b[?25h")]
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", frame.replace("\r", ""))
    lines = [re.sub(r"[0-9a-f]{64}", "DIGEST", line).rstrip() for line in plain.splitlines() if line.strip()]
    return [re.sub(r"[0-9.]+([kM]?B|s)\b", r"N\1", line) for line in lines]
