"""What a step wants signed, told by its form."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import anyio
import pytest
from agents import make_key, offered

from buildkit_session.services.agent_guard import AgentGuard
from buildkit_session.services.agent_messages import Identity, Signing, fingerprint
from buildkit_session.services.opened_keys import opened_keys
from buildkit_session.services.sign_request import SignRequest, sign_request
from buildkit_session.services.ssh import Ssh
from buildkit_session.services.ssh_wire import string

if TYPE_CHECKING:
    from pathlib import Path

BLOB = string(b"ssh-ed25519") + string(b"x" * 32)
SESSION = bytes(range(32))


def login(method: bytes = b"publickey", *further: bytes, user: bytes = b"git", blob: bytes = BLOB) -> bytes:
    """What a client signs to log in."""
    names = b"".join(map(string, (user, b"ssh-connection", method)))
    return string(SESSION) + b"\x32" + names + b"\x01" + b"".join(map(string, (b"ssh-ed25519", blob, *further)))


def told(data: bytes) -> SignRequest:
    return sign_request("default", Identity(BLOB, b"a \x1b[1mkey"), Signing(BLOB, data, 0))


HOSTBOUND = login(b"publickey-hostbound-v00@openssh.com", b"host key")
SIGNED_FILE = b"SSHSIG" + b"".join(map(string, (b"git", b"", b"sha512", b"h" * 64)))


def test_a_login() -> None:
    for data, host_key in ((login(), None), (HOSTBOUND, fingerprint(b"host key"))):
        request = told(data)
        assert (request.kind, request.user, request.service) == ("login", "git", "ssh-connection")
        assert (request.session, request.host_key, request.namespace) == (SESSION.hex(), host_key, None)
        assert request.data == data


def test_a_signed_file() -> None:
    request = told(SIGNED_FILE)
    assert (request.kind, request.namespace, request.user) == ("sshsig", "git", None)


@pytest.mark.parametrize("whole", [login(), HOSTBOUND, SIGNED_FILE], ids=["login", "hostbound", "file"])
def test_what_is_not_quite_that_is_data(whole: bytes) -> None:
    """Somebody who allows logins must not be shown one that a server would not see."""
    for data in (b"", whole + b"\0", *(whole[:end] for end in range(len(whole)))):
        assert told(data).kind == "data"
    assert told(login(blob=string(b"ssh-ed25519"))).kind == "data"
    assert told(login(b"password")).kind == "data"


def test_texts_are_safe_to_print() -> None:
    request = told(login(user=b"\x1b]0;\xff"))
    assert request.user == r"\x1b]0;\xff"
    assert request.comment == r"a \x1b[1mkey"
    assert "data=" not in repr(request)


@pytest.mark.anyio
@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
async def test_what_openssh_has_signed(tmp_path: Path) -> None:
    """A file here, logins in real builds."""
    make_key(tmp_path / "key", "ed25519")
    requests: list[SignRequest] = []

    async def confirm(request: SignRequest) -> bool:
        requests.append(request)
        return False

    async with opened_keys([(tmp_path / "key").read_bytes()], None) as keys:
        (tmp_path / "key").unlink()
        guard = AgentGuard(keys, "work", chosen=None, confirm=confirm)
        async with offered(Ssh({"": guard}), tmp_path / "socket"):
            done = await anyio.run_process(
                ["ssh-keygen", "-Y", "sign", "-f", tmp_path / "key.pub", "-n", "release notes"],
                input=b"text",
                env={"SSH_AUTH_SOCK": str(tmp_path / "socket")},
                check=False,
                stderr=subprocess.DEVNULL,
            )
    assert done.returncode != 0
    assert [(one.id, one.kind, one.namespace) for one in requests] == [("work", "sshsig", "release notes")]


def test_a_name_of_a_quarter_of_a_megabyte() -> None:
    """Nobody could read it in a question, and it is cut so that it is none that was meant."""
    user = told(login(user=b"\x1b" * 250_000)).user or ""
    assert user.endswith("…")
    assert len(user) < 5000
