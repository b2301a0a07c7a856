"""A program beside a test: it is there when the block begins, and gone when it ends, however it ends."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from buildkit_session.testing import Unavailable
from buildkit_session.testing.companion import companion
from buildkit_session.testing.isolated import free_port

if TYPE_CHECKING:
    from pathlib import Path

_LISTEN = """\
import os, socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(os.getpid(), flush=True)
time.sleep(100)
"""
_START_AND_WAIT = """\
import sys
from pathlib import Path
from buildkit_session.testing.companion import companion
with companion([sys.executable, "-c", sys.argv[1], sys.argv[2]], int(sys.argv[2]), Path(sys.argv[3])):
    print("listens", flush=True)
    sys.stdin.read()
"""


def test_it_listens_inside_the_block_and_not_after_it(tmp_path: Path) -> None:
    port = free_port()
    with companion([sys.executable, "-c", _LISTEN, str(port)], port, tmp_path / "log"):
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_one_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such luck')"]
    with pytest.raises(Unavailable, match="no such luck"), companion(command, free_port(), tmp_path / "log"):
        pass


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Even a killed test run leaves nothing that listens."""
    port, log = str(free_port()), tmp_path / "log"
    starter = subprocess.Popen(
        [sys.executable, "-c", _START_AND_WAIT, _LISTEN, port, log], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"listens\n"
        descriptor = os.pidfd_open(int(log.read_text()))
        starter.kill()
        ended, _, _ = select.select([descriptor], [], [], 30)
        os.close(descriptor)
    assert ended
