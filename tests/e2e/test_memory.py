"""Memory does not follow the size of what is transferred."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon

MIB = 1024 * 1024
SMALL, LARGE = 4 * MIB, 300 * MIB
ALLOWED = 16 * MIB
"""What a large transfer may take more than a small one: windows and read-ahead, which are at most a few MiB."""


# The kernel's own record of this process. What wait4() says of a child may be the peak of the one that started it.
BUILD = """
import re, sys
from buildkit_session.cli import main

code = main(sys.argv[1:])
with open("/proc/self/status") as status:
    print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1])
sys.exit(code)
"""


def peak_of_build(daemon: Daemon, context: Path, output: str) -> int:
    """The most memory, in bytes, that a process had which did one build."""
    arguments = ["build", "--quiet", "--no-cache", "--output", output, str(context)]
    environment = {**os.environ, "DOCKER_HOST": daemon.address}
    done = subprocess.run(
        [sys.executable, "-c", BUILD, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1]) * 1024


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["local", "tar"])
def test_peak_is_flat(daemon: Daemon, tmp_path: Path, kind: str) -> None:
    """300 MiB both ways take as much memory as 4 MiB, give or take what may be under way."""
    context, dest = tmp_path / "context", tmp_path / "dest"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    peaks = []
    for size in (SMALL, LARGE):
        (context / "file").write_bytes(os.urandom(MIB) * (size // MIB))
        peaks.append(peak_of_build(daemon, context, f"type={kind},dest={dest}"))
        received = dest / "file" if kind == "local" else dest
        assert received.stat().st_size >= size

    shutil.rmtree(tmp_path)  # pytest would keep it for three runs
    assert peaks[1] - peaks[0] < ALLOWED
