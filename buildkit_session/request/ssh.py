"""Agents and keys for ``RUN --mount=type=ssh`` and for git over ssh: ``--ssh``.

Values and their checks; the service that forwards an agent is another module's.

Source: docker/buildx:util/buildflags/ssh.go; moby/buildkit:session/sshforward/sshprovider/agentprovider.go (toDialer).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.request.arguments import texts
from buildkit_session.wording import a_type

__all__ = ["DEFAULT_ID", "SshAgent", "SshKeys", "SshSource", "agent", "keys", "parse", "read_agents"]

DEFAULT_ID: Final = "default"
"""What a mount without an id, and git, ask for."""

MAX_KEY_SIZE: Final = 100 * 1024
"""Bytes of a key file, as upstream has it."""

_AGENT_VARIABLE: Final = "SSH_AUTH_SOCK"
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----\s*(.*?)-----END", re.DOTALL)
# A key in OpenSSH's own format begins with this and the name of its cipher. Source: openssh:PROTOCOL.key.
_OPENSSH: Final = b"openssh-key-v1\0"
_UNENCRYPTED: Final = b"\0\0\0\x04none"


@dataclass(frozen=True, slots=True)
class SshAgent:
    """The socket of an agent.

    Attributes:
        path: of the socket; ``None`` for ``SSH_AUTH_SOCK`` of the environment.
    """

    path: Path | None = None

    def socket(self, environ: Mapping[str, str] | None = None) -> Path:
        """Where the agent listens.

        Raises:
            InputError: the environment does not say.
        """
        if self.path is not None:
            return self.path
        given = (os.environ if environ is None else environ).get(_AGENT_VARIABLE, "")
        if not given:
            raise InputError(f"invalid empty ssh agent socket: make sure {_AGENT_VARIABLE} is set, or name a socket")
        return Path(given)

    def check(self, environ: Mapping[str, str] | None = None) -> None:
        """Raise InputError if there is no socket."""
        path = self.socket(environ)
        if not stat.S_ISSOCK(_stat(path).st_mode):
            raise InputError(f"ssh agent {path} is not a socket; start an agent, or name key files")


@dataclass(frozen=True, slots=True)
class SshKeys:
    """Files with private keys, which must not be encrypted.

    Attributes:
        paths: of the files.
    """

    paths: tuple[Path, ...]

    def check(self, _environ: Mapping[str, str] | None = None) -> None:
        """Raise InputError if a file cannot be read, or holds no usable key."""
        for path in self.paths:
            _check_key(path)


SshSource: TypeAlias = SshAgent | SshKeys


def agent(path: str | os.PathLike[str] | None = None) -> SshAgent:
    """Forward the agent that listens at ``path``, by default the user's own."""
    return SshAgent(None if path is None or not os.fspath(path) else Path(path))


def keys(*paths: str | os.PathLike[str]) -> SshKeys:
    """Offer keys from files.

    Raises:
        InputError: there is none, or a path is empty.
    """
    if not paths or not all(map(os.fspath, paths)):
        raise InputError("ssh.keys() takes the paths of key files, and none of them may be empty")
    return SshKeys(tuple(map(Path, paths)))


def parse(text: str) -> tuple[str, SshSource]:
    """Read one value of ``--ssh``: ``ID``, ``ID=SOCKET`` or ``ID=KEY[,KEY...]``.

    What kind of file each path is decides what it means, so this looks at the file system, as buildx does.

    Returns:
        The id, ``default`` if it is empty, and what is forwarded.

    Raises:
        InputError: a path is not there, or sockets and keys do not go together.
    """
    name, _, rest = text.partition("=")
    name = name or DEFAULT_ID
    paths = [Path(path) for path in rest.split(",")] if rest else []
    if "" in rest.split(",") and paths:
        raise InputError(f"empty path in ssh agent {text!r}: write {name}=SOCKET or {name}=KEY,KEY")
    sockets = sum(stat.S_ISSOCK(_stat(path).st_mode) for path in paths)
    if not paths:
        return name, SshAgent()
    if not sockets:
        return name, SshKeys(tuple(paths))
    if sockets < len(paths):
        raise InputError(f"invalid combination of keys and sockets for ssh agent {name}; give each an id of its own")
    if sockets > 1:
        raise InputError(f"only single socket allowed for ssh agent {name}; give each an id of its own")
    return name, SshAgent(paths[0])


def read_agents(given: object) -> dict[str, SshSource]:
    """Take a mapping of ids to agents and keys, or to their paths, or a sequence of texts as :func:`parse` takes them.

    Raises:
        InputError: it is neither, one of them cannot be, or an id comes twice.
    """
    if isinstance(given, Mapping):
        pairs = [(name, _read(name, value)) for name, value in given.items()]
    else:
        pairs = [parse(text) for text in texts("ssh", given) if text]
    found: dict[str, SshSource] = {}
    for name, source in pairs:
        if name in found:
            raise InputError(f'duplicate agent ID "{name}"; name all keys of it at once: {name}=KEY,KEY')
        found[name] = source
    return found


def _read(name: str, value: object) -> SshSource:
    if isinstance(value, SshAgent | SshKeys):
        return value
    if not isinstance(value, str):
        raise InputError(f"ssh: the value of {name!r} is {a_type(value)}; use bk.ssh.agent() or keys()")
    return parse(f"{name}={value}")[1]


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise InputError(f"failed to stat {path} for ssh: {error.strerror}") from error


def _check_key(path: Path) -> None:
    if not stat.S_ISREG(_stat(path).st_mode):
        raise InputError(f"ssh key {path} is not a regular file")
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_KEY_SIZE)
    except OSError as error:
        raise InputError(f"ssh key {path} cannot be read: {error.strerror}") from error
    found = _PEM.search(content)
    if found is None:
        raise InputError(f"failed to parse ssh key {path}: it holds no private key in PEM or OpenSSH format")
    if _is_encrypted(found[1], found[2]):
        raise InputError(
            f"failed to parse ssh key {path}: this private key is passphrase protected; add it to an agent instead"
        )


def _is_encrypted(label: bytes, body: bytes) -> bool:
    if b"ENCRYPTED" in label or body.startswith(b"Proc-Type: 4,ENCRYPTED"):
        return True
    try:
        raw = base64.b64decode(body)
    except binascii.Error:
        return False
    return raw.startswith(_OPENSSH) and not raw.startswith(_OPENSSH + _UNENCRYPTED)
