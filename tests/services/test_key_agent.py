"""Agents for key files, by the OpenSSH of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode
from typing import TYPE_CHECKING

import anyio
import pytest
from agents import make_key

from buildkit_session.errors import InputError
from buildkit_session.request import ssh
from buildkit_session.services.agent_socket import AgentSocket
from buildkit_session.services.key_agent import key_agent
from buildkit_session.services.key_file import read_key
from buildkit_session.services.opened_keys import identities_of, opened_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not all(map(shutil.which, ("ssh-agent", "ssh-add", "ssh-keygen"))), reason="needs OpenSSH"),
]


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A short one: the path of a socket has about a hundred bytes. That of pytest is made before."""
    with tempfile.TemporaryDirectory(prefix="bks-") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield directory


async def listed(keys: list[Path | bytes]) -> str:
    async with key_agent(keys) as agent, agent.connect() as conversation:
        answer = await conversation.ask(b"\x0b")
    assert answer is not None
    assert answer[0] == 12
    return answer.hex()


@pytest.mark.parametrize(
    ("kind", "form"), [("ed25519", "RFC4716"), ("rsa", "RFC4716"), ("rsa", "PEM"), ("ecdsa", "PKCS8")]
)
async def test_kinds_of_keys(tmp_path: Path, kind: str, form: str) -> None:
    """Whoever may read the file, as long as this process may."""
    public = make_key(tmp_path / "key", kind, "", "-m", form)
    (tmp_path / "key").chmod(0o644)
    found = await listed([tmp_path / "key"])
    assert b64decode(public.split()[1]).hex() in found


async def test_several_keys(tmp_path: Path) -> None:
    make_key(tmp_path / "a", "ed25519")
    make_key(tmp_path / "b", "ed25519")
    found = await listed([tmp_path / "a", (tmp_path / "b").read_bytes()])
    assert found.startswith("0c00000002")


def test_what_is_no_file_is_closed_again(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(InputError, match="is not a regular file"):
        read_key(tmp_path)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("kind", ["missing", "passphrase", "public", "directory", "pipe", "huge"])
async def test_what_is_no_key(tmp_path: Path, kind: str, own_temporary_directory: str) -> None:
    """Nobody is asked for the passphrase, and nothing is left."""
    path = tmp_path / "key"
    match kind:
        case "passphrase":
            make_key(path, "ed25519", "secret")
        case "public":
            path.write_text(make_key(tmp_path / "other", "ed25519"))
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "huge":
            path.write_bytes(b"x" * 10_000_000)
    with pytest.raises(InputError, match=str(path)):
        await listed([path])
    assert not os.listdir(own_temporary_directory)


async def test_the_agent_ends_with_the_block(tmp_path: Path, own_temporary_directory: str) -> None:
    make_key(tmp_path / "key", "ed25519")
    async with key_agent([tmp_path / "key"]) as agent:
        assert len(agents()) == 1
    await gone()
    assert not os.listdir(own_temporary_directory)
    with pytest.raises(InputError):
        async with agent.connect():
            pass


async def test_the_agent_ends_with_the_process(tmp_path: Path, own_temporary_directory: str) -> None:
    """However that ends."""
    program = (
        "import anyio, os, sys, tempfile\n"
        "from buildkit_session.services.key_agent import key_agent\n"
        "async def main():\n"
        "    async with key_agent([]):\n"
        "        print('up', flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    command, environ = [sys.executable, "-c", program], {**os.environ, "TMPDIR": own_temporary_directory}
    async with await anyio.open_process(command, env=environ) as process:
        assert process.stdout is not None
        assert (await process.stdout.receive()).startswith(b"up")
        assert len(agents()) == 1
        process.kill()
    await gone()


async def test_it_serves_where_the_library_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For keys without a passphrase; for others the error says what to install, before the build."""
    make_key(tmp_path / "open", "ed25519")
    make_key(tmp_path / "locked", "ed25519", "words")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    given = ssh.keys(tmp_path / "open", (tmp_path / "open").read_bytes())
    given.check()
    async with opened_keys((*given.paths, *given.contents), None) as agent:
        assert isinstance(agent, AgentSocket)
        assert len(await identities_of(agent)) == 1
    with pytest.raises(InputError, match=r"pip install 'buildkit-session\[ssh\]'"):
        ssh.keys(tmp_path / "locked", passphrase="words").check()  # noqa: S106 - of a key made here


async def test_without_openssh(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="install OpenSSH"):
        async with key_agent([], environ={"PATH": str(tmp_path)}):
            pass


def agents() -> list[str]:
    """The agents of this test, by their sockets."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if f"-D -a {tempfile.gettempdir()}/" in line and not line.startswith("/bin/sh")]


async def gone() -> None:
    with anyio.fail_after(60):
        while agents():  # noqa: ASYNC110 - a process says nothing
            await anyio.sleep(0.01)
