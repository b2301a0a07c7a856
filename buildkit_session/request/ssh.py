"""Agents and keys for ``RUN --mount=type=ssh`` and for git over ssh: ``--ssh``.

.. code-block:: python

    ssh = {
        "default": bk.ssh.agent(only=["SHA256:...", Path("id_ed25519.pub")], confirm=ask_me),
        "deploy": bk.ssh.keys("id_deploy", passphrase=from_vault),
        "tunnel": bk.ssh.raw("/run/user/1000/tunnel.sock"),
    }

Steps list keys and have something signed; no key leaves this machine, and no step can change an agent. ``only`` names
the keys that are listed and may sign: by fingerprint, by public key (a line, or a ``.pub`` file), or by comment.
``confirm`` is asked before each signature (:class:`SignRequest`), and refuses by anything but ``True``.

Keys are opened and used in this process with ``pip install 'buildkit-session[ssh]'``: that way no copy of them goes to
another program, and no socket of an agent lies on disk. Without it OpenSSH's own agent is started for the build, which
takes keys without a passphrase.

Values and their checks; the service that forwards an agent is another module's.

Source: docker/buildx:util/buildflags/ssh.go; moby/buildkit:session/sshforward/sshprovider/agentprovider.go (toDialer).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.request.arguments import callback, texts
from buildkit_session.services.chosen_keys import ChosenKeys
from buildkit_session.services.key_file import can_open_keys, is_encrypted, look_at, read_key
from buildkit_session.services.sign_request import SignRequest
from buildkit_session.truth import TRUE
from buildkit_session.wording import a_path, a_type

if TYPE_CHECKING:
    from buildkit_session.services.agent_guard import Confirm
    from buildkit_session.services.opened_keys import Passphrase

    Chosen: TypeAlias = str | os.PathLike[str]

__all__ = [
    "DEFAULT_ID",
    "SignRequest",
    "SshAgent",
    "SshKeys",
    "SshRaw",
    "SshSource",
    "agent",
    "keys",
    "parse",
    "raw",
    "read_agents",
]

DEFAULT_ID: Final = "default"
"""What a mount without an id, and git, ask for."""

_AGENT_VARIABLE: Final = "SSH_AUTH_SOCK"
_RAW: Final = "raw="


@dataclass(frozen=True, slots=True)
class SshAgent:
    """The socket of an agent.

    Attributes:
        path: of the socket; ``None`` for ``SSH_AUTH_SOCK`` of the environment.
        only: which keys may be used; empty for all.
        confirm: may refuse a signature.
    """

    path: Path | None = None
    only: tuple[str | Path, ...] = ()
    confirm: Confirm | None = None

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
        """Raise InputError if there is no socket, or a public key cannot be read."""
        path = self.socket(environ)
        if not stat.S_ISSOCK(_stat(path).st_mode):
            raise InputError(f"ssh agent {path} is not a socket; start an agent, or name key files")
        ChosenKeys.of(self.only)


@dataclass(frozen=True, slots=True)
class SshKeys:
    """Private keys, from files or from memory.

    Attributes:
        paths: of the files. The names of these are the comments of the keys, where they are opened in this process.
        contents: keys in memory.
        passphrase: of those keys that have one, or a function that is asked for it.
        only: which keys may be used; empty for all.
        confirm: may refuse a signature.
    """

    paths: tuple[Path, ...]
    contents: tuple[bytes, ...] = field(default=(), repr=False)
    passphrase: Passphrase | None = field(default=None, repr=False)
    only: tuple[str | Path, ...] = ()
    confirm: Confirm | None = None

    def check(self, _environ: Mapping[str, str] | None = None) -> None:
        """Raise InputError if a file cannot be read, or holds no usable key. No key is opened yet."""
        for path in self.paths:
            if not stat.S_ISREG(_stat(path).st_mode):  # a socket could not even be opened
                raise InputError(f"ssh key {path} is not a regular file")
            self._check_key(read_key(path), f"ssh key {path}")
        for content in self.contents:
            self._check_key(content, "the ssh key in memory")
        ChosenKeys.of(self.only)

    def _check_key(self, content: bytes, name: str) -> None:
        look_at(content, name)
        if not is_encrypted(content):
            return
        if self.passphrase is None:
            raise InputError(
                f"failed to parse {name}: this private key is passphrase protected; "
                "add it to an agent instead, or give its passphrase: bk.ssh.keys(..., passphrase=...)"
            )
        if not can_open_keys():
            raise InputError(
                f"{name} has a passphrase, which needs a library: pip install 'buildkit-session[ssh]', "
                "or add the key to an agent instead"
            )


@dataclass(frozen=True, slots=True)
class SshRaw:
    """A socket whose bytes are forwarded as they are.

    Attributes:
        path: of the socket.
    """

    path: Path

    def check(self, _environ: Mapping[str, str] | None = None) -> None:
        """Raise InputError if there is no socket."""
        if not stat.S_ISSOCK(_stat(self.path).st_mode):
            raise InputError(f"{self.path} is not a socket, which is what ssh.raw() forwards")


SshSource: TypeAlias = SshAgent | SshKeys | SshRaw


def agent(
    path: str | os.PathLike[str] | None = None,
    *,
    only: Iterable[Chosen] | Chosen | None = None,
    confirm: Confirm | None = None,
) -> SshAgent:
    """Forward the agent that listens at ``path``, by default the user's own.

    Args:
        path: of the agent's socket.
        only: the keys that are listed and may sign, whatever else the agent has: fingerprints (``SHA256:...``), lines
            with a public key, paths of ``.pub`` files, or comments. All of them by default.
        confirm: takes a :class:`SignRequest` and returns whether to sign; with ``async def`` it runs on the event loop,
            else in a thread. It may take as long as the step waits, and is cancelled when that is gone. Whatever it
            raises is a refusal, and logged by its type and line as a warning of ``buildkit_session.services``.

    Raises:
        InputError: ``only`` names nothing, or something is of the wrong type.
    """
    named = path is not None and a_path("the socket of an ssh agent", path)
    return SshAgent(Path(path) if path is not None and named else None, _only(only), _confirm(confirm))


def keys(
    *given: str | os.PathLike[str] | bytes,
    passphrase: Passphrase | None = None,
    only: Iterable[Chosen] | Chosen | None = None,
    confirm: Confirm | None = None,
) -> SshKeys:
    """Offer private keys: Ed25519, RSA (signatures with SHA-2) and ECDSA, in OpenSSH's format or PEM.

    Args:
        given: paths of key files; ``bytes`` are a key itself, as a vault has it.
        passphrase: of those that have one: a text, bytes, or a function that is given the path, ``None`` for a key in
            memory, once for each such key before the build starts. Needs ``pip install 'buildkit-session[ssh]'``.
        only: which of the keys may be used, as for :func:`agent`.
        confirm: may refuse a signature, as for :func:`agent`.

    Raises:
        InputError: there is no key, a path is empty, or something is of the wrong type.
    """
    if any(isinstance(one, list | tuple) for one in given):
        raise InputError("ssh.keys() takes keys one by one: write ssh.keys(*paths) for a list")
    if not given or not all(one if isinstance(one, bytes) else a_path("an ssh key", one) for one in given):
        raise InputError("ssh.keys() takes the paths of key files, and none of them may be empty")
    if any(isinstance(one, str) and "PRIVATE KEY-----" in one for one in given):
        raise InputError("ssh.keys() takes paths as texts; give a key itself as bytes")
    if not (passphrase is None or isinstance(passphrase, str | bytes) or callable(passphrase)):
        raise InputError(f"the passphrase of ssh keys must be a text, bytes or a function, not {a_type(passphrase)}")
    return SshKeys(
        tuple(Path(one) for one in given if not isinstance(one, bytes)),
        tuple(one for one in given if isinstance(one, bytes)),
        passphrase,
        _only(only),
        _confirm(confirm),
    )


def raw(path: str | os.PathLike[str]) -> SshRaw:
    """Forward a unix socket as it is: bytes are copied both ways, and nothing of them is looked at.

    A step can do whatever the server behind the socket lets it do, which for the socket of a daemon is everything. For
    an ssh agent take :func:`agent`.

    Raises:
        InputError: the path is empty.
    """
    if not a_path("what ssh.raw() forwards", path):
        raise InputError("ssh.raw() takes the path of a socket")
    return SshRaw(Path(path))


def parse(text: str) -> tuple[str, SshSource]:
    """Read one value of ``--ssh``: ``ID``, ``ID=SOCKET``, ``ID=SOCKET,raw=true`` or ``ID=KEY[,KEY...]``.

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
    if (socket := _raw_socket(paths)) is not None:
        return name, SshRaw(socket)
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
    if isinstance(value, SshAgent | SshKeys | SshRaw):
        return value
    if not isinstance(value, str):
        raise InputError(f"ssh: the value of {name!r} is {a_type(value)}; use bk.ssh.agent(), keys() or raw()")
    return parse(f"{name}={value}")[1]


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise InputError(f"failed to stat {path} for ssh: {error.strerror}") from error


def _raw_socket(paths: list[Path]) -> Path | None:
    """The socket of ``SOCKET,raw=true``, as buildctl has it. To buildx it is an error, whatever is there."""
    if len(paths) != 2 or not stat.S_ISSOCK(_stat(paths[0]).st_mode):
        return None
    key, value = str(paths[1])[: len(_RAW)], str(paths[1])[len(_RAW) :]
    return paths[0] if key == _RAW and value in TRUE else None


def _only(given: object) -> tuple[str | Path, ...]:
    if given is None:
        return ()
    several = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    named = tuple(one if isinstance(one, str) else Path(one) for one in several if isinstance(one, str | os.PathLike))
    if not named or len(named) < len(several) or "" in named:
        raise InputError(
            "only= of ssh takes a list with one key or more: SHA256:... of ssh-add -l, a public key, a .pub file or "
            "a comment; leave it away for all keys"
        )
    return named


def _confirm(given: Confirm | None) -> Confirm | None:
    callback("confirm of ssh", given)
    return given
