"""Agents and keys: what a text means, and what is refused before a build."""

from __future__ import annotations

import socket
import subprocess
from base64 import b64encode
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, cast

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request import ssh
from buildkit_session.request.ssh import SshAgent, SshKeys, SshRaw
from buildkit_session.services.agent_messages import Identity, fingerprint
from buildkit_session.services.chosen_keys import ChosenKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLAIN = b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"
ENCRYPTED = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
PKCS8 = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"

UNTYPED: Any = ssh


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
        ("work=agent,raw=true", "work", SshRaw(Path("agent"))),
        ("work=key,./key", "work", SshKeys((Path("key"), Path("./key")))),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_a_text_means(text: str, name: str, source: ssh.SshSource) -> None:
    assert ssh.parse(text) == (name, source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=missing", "failed to stat missing for ssh: No such file"),
        ("a=agent,other", "only single socket allowed"),
        ("a=agent,key", "invalid combination of keys and sockets"),
        ("a=key,", "empty path"),
        ("a=agent,raw=false", "failed to stat raw=false"),
        ("a=key,raw=true", "failed to stat raw=true"),
        ("a=agent,other,raw=true", "failed to stat raw=true"),
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
        (b"ssh-ed25519 AAAA me\n", r"no private key .*; it is the public half, give the file without \.pub$"),
        (ENCRYPTED, "passphrase protected"),
        (PKCS8, "passphrase protected"),
    ],
)
def test_keys_that_cannot_be_used(place: Path, content: bytes, message: str) -> None:
    ssh.keys("key").check()
    (place / "key").write_bytes(content)
    with pytest.raises(InputError, match=message):
        ssh.keys("key").check()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ssh.agent(cast("str", 5)), "the socket of an ssh agent must be a path, not an int"),
        (lambda: ssh.keys(cast("str", 5)), "an ssh key must be a path, not an int"),
        (lambda: ssh.keys(cast("str", ["a", "b"])), r"write ssh\.keys\(\*paths\) for a list"),
        (lambda: ssh.raw(cast("str", None)), r"what ssh\.raw\(\) forwards must be a path, not a NoneType"),
    ],
)
def test_what_is_no_path(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


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


@pytest.mark.skipif(which("ssh-keygen") is None, reason="no ssh-keygen")
def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    """It is in no text of the values, and no key is either."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(tmp_path / "key")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    content = (tmp_path / "key").read_bytes()
    for passphrase in ("secret", b"secret", lambda _path: "secret"):
        given = ssh.keys(tmp_path / "key", content, passphrase=passphrase)
        given.check()
        assert "secret" not in repr(given)
        assert "BEGIN" not in repr(given)
    for key in (tmp_path / "key", content):
        with pytest.raises(InputError, match="this private key is passphrase protected; add it to an agent"):
            ssh.keys(key).check()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNTYPED.keys("key", passphrase=3), "passphrase of ssh keys must be .* not an int"),
        (lambda: ssh.keys(PLAIN.decode()), "give a key itself as bytes"),
        (lambda: ssh.agent(only=[]), "one key or more"),
        (lambda: UNTYPED.agent(only=3), "one key or more"),
        (lambda: UNTYPED.agent(only=["a", b"b"]), "one key or more"),
        (lambda: UNTYPED.agent(confirm=True), "must be a function"),
        (lambda: ssh.raw(""), "path of a socket"),
        (lambda: ssh.agent("agent", only="MD5:aa").check(), "no fingerprint"),
        (lambda: ssh.agent("agent", only="SHA256:short").check(), "no fingerprint"),
        (lambda: ssh.agent("agent", only="missing.pub").check(), "missing.pub cannot be read"),
        (lambda: ssh.keys("key", only=Path("key")).check(), "no public ssh key"),
        (lambda: ssh.agent("agent", only="ssh-rsa AAAAC3Nz me").check(), "damaged"),
        (lambda: ssh.raw("key").check(), "not a socket"),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_cannot_be(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "BEGIN" not in str(caught.value)


def test_certificates_and_keys_in_hardware(place: Path) -> None:
    (place / "key").write_text("ssh-ed25519-cert-v01@openssh.com AAAA me\n")
    with pytest.raises(InputError, match="is a certificate"):
        ssh.keys("key").check()
    public = b"".join(len(part).to_bytes(4) + part for part in (b"sk-ssh-ed25519@openssh.com", b"x" * 32, b"ssh:"))
    parts = [b"none", b"none", b"", (1).to_bytes(4), public]
    raw = b"openssh-key-v1\0" + b"".join(p if p == parts[3] else len(p).to_bytes(4) + p for p in parts)
    body = b64encode(raw).decode()
    (place / "key").write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(InputError, match="security key"):
        ssh.keys("key").check()


def test_ways_to_choose_a_key(tmp_path: Path) -> None:
    """Which do not take one key for another."""
    blob = b"\0\0\0\x0bssh-ed25519" + b"\0\0\0 " + b"x" * 32
    key, other = Identity(blob, b"me@home"), Identity(blob[:-1] + b"y", b"me")
    line = f"ssh-ed25519 {b64encode(blob).decode()}"
    (tmp_path / "id.pub").write_text(f"{line} me@work\n")
    named = (fingerprint(blob), line, f"{line} a comment", tmp_path / "id.pub", str(tmp_path / "id.pub"), "me@home")
    for only in named:
        chosen = ChosenKeys.of([only])
        assert chosen.has(key)
        assert not chosen.has(other)
        assert chosen.missing([other]) in {fingerprint(blob), "me@home"}
        assert chosen.missing([key]) is None
