"""Agents and keys: what a text means, and what is refused before a build."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request import ssh
from buildkit_session.request.ssh import SshAgent, SshKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN = b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"
ENCRYPTED = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
PKCS8 = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a key and two sockets, to which short paths lead."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_bytes(PLAIN)
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.bind("agent")
        second.bind("other")
        yield tmp_path


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        ("default", "default", SshAgent()),
        ("default=", "default", SshAgent()),
        ("", "default", SshAgent()),
        ("=agent", "default", SshAgent(Path("agent"))),
        ("work=agent", "work", SshAgent(Path("agent"))),
        ("work=key", "work", SshKeys((Path("key"),))),
        ("work=key,./key", "work", SshKeys((Path("key"), Path("./key")))),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_a_text_means(text: str, name: str, source: SshAgent | SshKeys) -> None:
    assert ssh.parse(text) == (name, source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=missing", "failed to stat missing for ssh: No such file"),
        ("a=agent,other", "only single socket allowed"),
        ("a=agent,key", "invalid combination of keys and sockets"),
        ("a=key,", "empty path"),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_does_not_go_together(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ssh.parse(text)


@pytest.mark.usefixtures("place")
def test_an_agent_is_a_socket() -> None:
    ssh.agent("agent").check()
    ssh.agent().check({"SSH_AUTH_SOCK": "agent"})
    assert ssh.agent("") == ssh.agent(None) == SshAgent()
    with pytest.raises(InputError, match="make sure SSH_AUTH_SOCK is set"):
        ssh.agent().check({})
    with pytest.raises(InputError, match="key is not a socket"):
        ssh.agent("key").check()
    with pytest.raises(InputError, match="failed to stat gone"):
        ssh.agent().check({"SSH_AUTH_SOCK": "gone"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense", "no private key in PEM or OpenSSH format"),
        (b"ssh-ed25519 AAAA me\n", "no private key"),
        (ENCRYPTED, "passphrase protected"),
        (PKCS8, "passphrase protected"),
    ],
)
def test_keys_that_cannot_be_used(place: Path, content: bytes, message: str) -> None:
    ssh.keys("key").check()
    (place / "key").write_bytes(content)
    with pytest.raises(InputError, match=message):
        ssh.keys("key").check()


@pytest.mark.usefixtures("place")
def test_a_key_is_a_file() -> None:
    with pytest.raises(InputError, match="agent is not a regular file"):
        ssh.keys("agent").check()
    with pytest.raises(InputError, match="takes the paths of key files"):
        ssh.keys()
    with pytest.raises(InputError, match="takes the paths of key files"):
        ssh.keys("key", "")


@pytest.mark.skipif(which("ssh-keygen") is None, reason="no ssh-keygen")
@pytest.mark.parametrize(("kind", "form"), [("ed25519", "RFC4716"), ("rsa", "PEM"), ("rsa", "PKCS8"), ("ecdsa", "PEM")])
def test_keys_of_openssh(tmp_path: Path, kind: str, form: str) -> None:
    for name, passphrase in (("plain", ""), ("locked", "secret")):
        command = ["ssh-keygen", "-q", "-t", kind, "-m", form, "-N", passphrase, "-f", str(tmp_path / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    ssh.keys(tmp_path / "plain").check()
    with pytest.raises(InputError, match="passphrase protected"):
        ssh.keys(tmp_path / "locked").check()
