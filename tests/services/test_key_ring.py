"""Keys opened and used in this process, by the judgement of OpenSSH's programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from agents import make_key, offered
from calls import ScriptedCall, serve

from buildkit_session.errors import CallbackError, InputError
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.agent_messages import FAILURE, LIST, Identity, read_identities
from buildkit_session.services.agent_protocol import framed
from buildkit_session.services.key_ring import KeyRing
from buildkit_session.services.opened_keys import identities_of, opened_keys
from buildkit_session.services.ssh import Ssh
from buildkit_session.services.ssh_wire import string

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not all(map(shutil.which, ("ssh-add", "ssh-keygen"))), reason="needs OpenSSH"),
]

KINDS: Mapping[str, tuple[str, ...]] = {
    "ed25519": ("ed25519",),
    "rsa": ("rsa",),
    "rsa, PEM": ("rsa", "-m", "PEM"),
    "nistp256": ("ecdsa", "-b", "256"),
    "nistp384, PKCS8": ("ecdsa", "-b", "384", "-m", "PKCS8"),
    "nistp521": ("ecdsa", "-b", "521"),
}


def signing(blob: bytes, data: bytes = b"data", flags: int = 0) -> bytes:
    return b"\x0d" + string(blob) + string(data) + flags.to_bytes(4)


async def openssh(command: list[str], socket: Path, *, data: bytes = b"") -> str:
    environ = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
    with anyio.fail_after(60):
        return (await anyio.run_process(command, input=data, env=environ)).stdout.decode()


@pytest.mark.parametrize("passphrase", ["", "words of mine"], ids=["open", "locked"])
@pytest.mark.parametrize("kind", KINDS)
async def test_openssh_takes_the_signatures(tmp_path: Path, kind: str, passphrase: str) -> None:
    """ssh-add asks for RSA with SHA-1 or, when newer, SHA-256, ssh-keygen for SHA-512."""
    name, *options = KINDS[kind]
    key, socket = tmp_path / "key", tmp_path / "socket"
    public = make_key(key, name, passphrase, *options)
    (tmp_path / "signers").write_text(f"me {public}\n")
    key.rename(tmp_path / "moved")  # ssh-keygen is not to find it
    async with opened_keys([tmp_path / "moved"], passphrase) as agent, offered(Ssh({"": agent}), socket):
        assert await openssh(["ssh-add", "-L"], socket) == f"{public} moved\n"
        await openssh(["ssh-add", "-T", f"{key}.pub"], socket)
        signature = await openssh(["ssh-keygen", "-Y", "sign", "-f", f"{key}.pub", "-n", "git"], socket, data=b"text")
    (tmp_path / "signature").write_text(signature)
    verify = f"-Y verify -f {tmp_path}/signers -I me -n git -s {tmp_path}/signature".split()
    assert "Good" in await openssh(["ssh-keygen", *verify], socket, data=b"text")


async def test_one_passphrase_is_asked_for_each_key_that_has_one(tmp_path: Path) -> None:
    """By the path; a key in memory has none."""
    make_key(tmp_path / "open", "ed25519")
    make_key(tmp_path / "locked", "ed25519", "one")
    make_key(tmp_path / "memory", "ed25519", "two")
    asked: list[Path | None] = []

    async def vault(path: Path | None) -> str:
        asked.append(path)
        return "one" if path else "two"

    keys: list[Path | bytes] = [tmp_path / "open", tmp_path / "locked", (tmp_path / "memory").read_bytes()]
    async with opened_keys(keys, vault) as agent, agent.connect() as conversation:
        identities = read_identities(await conversation.ask(LIST) or b"")
    assert [one.comment for one in identities] == [b"open", b"locked", b""]
    assert asked == [tmp_path / "locked", None]


@pytest.mark.parametrize("given", ["wrong", b"wrong", "", None, 3, "failing"])
@pytest.mark.parametrize("form", ["RFC4716", "PEM"])
async def test_a_passphrase_that_is_not_the_one(tmp_path: Path, form: str, given: object) -> None:
    """The error names the key and repeats no passphrase, neither itself nor by its cause."""
    make_key(tmp_path / "key", "rsa", "words of mine", "-m", form)

    def failing(_path: Path | None) -> str:
        raise ValueError("words of mine")

    passphrase: Any = failing if given == "failing" else given
    expected = CallbackError if given == "failing" else InputError
    with pytest.raises(expected, match=f"ssh key {tmp_path}/key") as caught:
        async with opened_keys([tmp_path / "key"], passphrase):
            pass
    assert "words" not in str(caught.value)
    assert "wrong" not in str(caught.value)


async def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    make_key(tmp_path / "key", "ed25519")
    content = (tmp_path / "key").read_bytes()
    middle = len(content) // 2
    damaged = content[:middle] + b"AAAA" + content[middle + 4 :]
    certificate = b"ssh-ed25519-cert-v01@openssh.com AAAA me\n"
    for key, message in ((damaged, "damaged"), (certificate, "is a certificate"), (b"", "no private key")):
        with pytest.raises(InputError, match=message):
            async with opened_keys([key], None):
                pass


class SlowKey:
    """Signs when it is told to."""

    identity = Identity(b"blob", b"comment")

    def __init__(self) -> None:
        self.may_sign = threading.Event()

    def sign(self, data: bytes, flags: int) -> bytes | None:
        assert self.may_sign.wait(60)
        if flags:
            raise RuntimeError
        return data


async def test_a_signature_in_the_making_holds_nobody_up() -> None:
    key = SlowKey()
    ring = KeyRing([key])
    answers = []

    async def sign() -> None:
        answers.append(await ring.ask(signing(b"blob")))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sign)
            await anyio.wait_all_tasks_blocked()
            assert read_identities(await ring.ask(LIST)) == (key.identity,)
            key.may_sign.set()
    assert answers == [b"\x0e" + string(b"data")]
    assert await ring.ask(signing(b"blob", flags=2)) == FAILURE  # whatever a key raises


async def test_signatures_that_are_not_made(tmp_path: Path) -> None:
    """Of keys that are not there, and with flags that nobody knows; and none after the end."""
    make_key(tmp_path / "key", "rsa")
    async with opened_keys([tmp_path / "key"], None) as agent, agent.connect() as conversation:
        (key,) = read_identities(await conversation.ask(LIST) or b"")
        for request in (signing(b"other", flags=2), signing(key.blob, flags=8 | 2)):
            assert await conversation.ask(request) == FAILURE
        for flags, algorithm in ((0, b"ssh-rsa"), (2, b"rsa-sha2-256"), (4, b"rsa-sha2-512"), (6, b"rsa-sha2-256")):
            assert string(algorithm) in (await conversation.ask(signing(key.blob, flags=flags)) or b"")[:40]
    with pytest.raises(InputError, match="has ended"):
        async with agent.connect():
            pass


async def test_many_at_once(tmp_path: Path) -> None:
    """AU-22: a thread signs for each, and none is left."""
    make_key(tmp_path / "key", "ed25519")
    async with opened_keys([tmp_path / "key"], None) as agent:
        (key,) = await identities_of(agent)
        service = Ssh({"": agent})
        calls = [ScriptedCall([BytesMessage(data=framed(signing(key.blob)) * 2)]) for _ in range(200)]
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(serve, service, "ForwardAgent", call)
    (said,) = {b"".join(message.data for message in call.sent) for call in calls}  # such signatures are all the same
    assert said == said[: len(said) // 2] * 2
    assert said[4] == 14


def test_the_library_is_not_loaded_before_a_key_is() -> None:
    code = (
        "import buildkit_session.request.ssh, buildkit_session.ssh_agents, buildkit_session.services.opened_keys, sys"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"], capture_output=True, check=True
    ).stdout.split()
    assert b"cryptography" not in loaded
