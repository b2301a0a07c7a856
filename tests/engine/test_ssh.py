"""Engines behind ssh: a real sshd on loopback, with keys of its own, in front of a real daemon."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

import buildkit_session as bk
from buildkit_session.engine.address import Endpoint, SshAddress
from buildkit_session.engine.dialing import dial
from buildkit_session.engine.info import EngineInfo
from buildkit_session.engine.ping import ping, probe
from buildkit_session.errors import EngineUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.testing import Daemon, ReferenceClient

pytestmark = pytest.mark.anyio

SSHD = Path("/usr/sbin/sshd")


@contextmanager
def sshd(folder: Path, programs: Path) -> Iterator[int]:
    """A server that lets the key ``folder/key`` in, with ``programs`` on the PATH; gives its port."""
    if not SSHD.exists() or shutil.which("ssh") is None:
        pytest.skip("there is no ssh or no sshd here")
    for name in ("host", "key", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/key.pub\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin prohibit-password\nSetEnv PATH={programs}:{os.environ['PATH']}\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True) if os.getuid() == 0 else None
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        _wait_for(port, server, folder / "sshd.log")
        yield port
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probing:
            if probing.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"sshd does not answer: {log.read_text()}")


def client_config(folder: Path, port: int, *, key: str = "key") -> str:
    """Write a configuration for ssh, in which the server is called Build-Box; return the command."""
    host_key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "ssh_config").write_text(
        f"Host Build-Box\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {folder}/{key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n  IdentityAgent none\n"
    )
    return f"ssh -F '{folder}/ssh_config'"


@pytest.fixture
def address(
    tmp_path: Path, daemon: Daemon, reference: ReferenceClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SshAddress]:
    """The daemon, as seen through ssh."""
    if not daemon.address.startswith("unix://"):
        pytest.skip("the daemon has no unix socket")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "docker").symlink_to(reference.docker)
    with sshd(tmp_path, programs) as port:
        monkeypatch.setenv("BUILDKIT_SESSION_SSH", client_config(tmp_path, port))
        yield SshAddress("Build-Box", getpass.getuser(), path=daemon.address.removeprefix("unix://"))


def ssh_programs() -> list[str]:
    children = (Path("/proc/self/task") / str(os.getpid()) / "children").read_text().split()
    return [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "ssh"]


async def test_ping(address: SshAddress, daemon: Daemon) -> None:
    """What listens there is found out as anywhere else."""
    found = await probe(Endpoint(address))
    assert isinstance(found, EngineInfo)
    assert daemon.version in found.server


async def test_build(address: SshAddress, tmp_path: Path) -> None:
    """A whole build, its session, its context and its result, and no ssh is left."""
    (tmp_path / "context").mkdir()
    (tmp_path / "context/file").write_bytes(os.urandom(3_000_000))
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    async with bk.connect(str(address)) as client:
        await client.build(tmp_path / "context", outputs=[bk.output.local(tmp_path / "out")])
    assert (tmp_path / "out/file").read_bytes() == (tmp_path / "context/file").read_bytes()
    with anyio.fail_after(10):
        while ssh_programs():  # noqa: ASYNC110 - the last ones end in the background
            await asyncio.sleep(0.01)


async def test_a_stranger(address: SshAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the server does not know: the error says what ssh said, and what to try."""
    monkeypatch.setenv(
        "BUILDKIT_SESSION_SSH", os.environ["BUILDKIT_SESSION_SSH"].replace("ssh_config", "stranger_config")
    )
    text = (tmp_path / "ssh_config").read_text()
    (tmp_path / "stranger_config").write_text(text.replace(f"{tmp_path}/key", f"{tmp_path}/stranger"))
    with pytest.raises(EngineUnreachable, match=r"Permission denied \(publickey\).*key and an ssh agent"):
        await ping(Endpoint(address))


async def test_an_unknown_host(address: SshAddress, tmp_path: Path) -> None:
    """A host that ssh does not know is refused: nobody can be asked."""
    (tmp_path / "known_hosts").write_text("")
    with pytest.raises(EngineUnreachable, match="Host key verification failed"):
        await probe(Endpoint(address))


async def test_no_engine_there(address: SshAddress, tmp_path: Path) -> None:
    """What docker says on the other side is in the error."""
    with pytest.raises(EngineUnreachable, match=r"gone\.sock"):
        await probe(Endpoint(SshAddress(address.host, path=str(tmp_path / "gone.sock"))))


async def test_buildctl_on_the_other_side(address: SshAddress, tmp_path: Path) -> None:
    """For a buildkitd another program is run there."""
    (tmp_path / "programs/buildctl").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "programs/buildctl").chmod(0o755)
    received = bytearray()
    lost = asyncio.Event()

    class Protocol(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.extend(data)

        def connection_lost(self, _exc: Exception | None) -> None:
            lost.set()

    await dial(Endpoint(SshAddress(address.host, path="/s"), buildkitd=True), Protocol)
    with anyio.fail_after(20):
        await lost.wait()
    assert received == b"--addr unix:///s dial-stdio\n"


async def test_no_ssh_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDKIT_SESSION_SSH", "no-such-ssh")
    with pytest.raises(EngineUnreachable, match="no program 'no-such-ssh' here: install it"):
        await ping(Endpoint(SshAddress("h")))
