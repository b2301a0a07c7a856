"""Start an OpenSSH server on loopback, with keys of its own, for addresses such as ``ssh://user@127.0.0.1:port``.

It runs in a mount namespace of its own, where a file of users with the one that it wants for itself lies over the
machine's. Nobody gets in but this user, with a key that ends with the block.
"""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.testing.archive import unpacked
from buildkit_session.testing.companion import companion
from buildkit_session.testing.dockerd import search_path
from buildkit_session.testing.errors import Unavailable
from buildkit_session.testing.isolated import free_port, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Sshd", "find_sshd", "start_sshd"]

# The server, and the libraries that its package needs and that of the client does not.
_PACKAGES = ("openssh-server", "libwrap0", "libnsl2", "libtirpc3")
_OWN_USER = "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"

# $1 is the file of users, the rest is the command.
_LAUNCH = """
set -e
mkdir -p /run/sshd
mount -t tmpfs -o mode=755 tmpfs /run/sshd
mount --bind "$1" /etc/passwd
shift
exec "$@"
"""
_SETTINGS = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {home}/host_key
AuthorizedKeysFile {home}/key.pub
AllowUsers {user}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowStreamLocalForwarding yes
{variables}
"""
_CLIENT_SETTINGS = """\
Host *
  IdentityFile {home}/key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {home}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
"""


@dataclass(frozen=True, slots=True)
class Sshd:
    """An OpenSSH server that answers.

    Attributes:
        address: ``ssh://user@127.0.0.1:port``.
        port: on 127.0.0.1.
        user: who may log in.
        key: the private key of that user.
        known_hosts: names the server's own key.
        config: settings for the ``ssh`` program: this key and this server, and never a question.
        programs: a folder with an ``ssh`` that has these settings, to be put first into ``PATH``: it knows no variable
            for them, and reads the home folder from the machine's file of users.
        log: the file that the server logs to.
    """

    address: str
    port: int
    user: str
    key: Path
    known_hosts: Path
    config: Path
    programs: Path
    log: Path


def find_sshd() -> Path:
    """Find the program: this machine's own, or Debian's package unpacked in the cache folder.

    Raises:
        Unavailable: neither can be had.
    """
    if installed := shutil.which("sshd", path=search_path()):
        return Path(installed)
    # Not installed: that would open the machine to others. Of this release, as it shares the machine's libraries.
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
    return _program(unpacked(suite, _PACKAGES, usable=lambda folder: _program(folder).exists(), name=f"sshd-{suite}"))


@contextmanager
def start_sshd(*, environment: Mapping[str, str] | None = None) -> Iterator[Sshd]:
    """Start a server, wait until it answers, and end it with the block.

    Args:
        environment: what its sessions find in their environment; ``PATH`` and ``DOCKER_HOST`` make ``docker system
            dial-stdio`` reach a daemon.

    Raises:
        Unavailable: there is none here, this is not root, or it did not start.
    """
    if os.geteuid() != 0:
        raise Unavailable(f"a private sshd needs root, this is user {os.geteuid()}")
    program = find_sshd()
    with state_folder() as home:
        port = free_port()
        user = getpass.getuser()
        _make_keys(home, port)
        _write_settings(home, port, user, environment or {})
        launch = ["unshare", "--mount", "sh", "-c", _LAUNCH, "launch", str(home / "passwd")]
        command = [str(program), "-D", "-e", "-f", str(home / "sshd_config")]
        log = home / "log"
        with companion([*launch, *command], port, log, environment=_environment(program)):
            yield Sshd(
                address=f"ssh://{user}@127.0.0.1:{port}",
                port=port,
                user=user,
                key=home / "key",
                known_hosts=home / "known_hosts",
                config=home / "ssh_config",
                programs=home / "bin",
                log=log,
            )


def _program(folder: Path) -> Path:
    return folder / "usr/sbin/sshd"


def _environment(program: Path) -> dict[str, str]:
    """Point at the libraries that came with an unpacked server; its sessions start from an empty environment."""
    libraries = sorted(program.parents[1].glob("lib/*-linux-*")) if program.parents[2] != Path("/") else []
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))} if libraries else dict(os.environ)


def _make_keys(home: Path, port: int) -> None:
    for name in ("host_key", "key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(home / name)]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(
                f"ssh-keygen failed (on Debian and Ubuntu: apt-get install openssh-client): {error}"
            ) from error
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {(home / 'host_key.pub').read_text()}")


def _write_settings(home: Path, port: int, user: str, environment: Mapping[str, str]) -> None:
    users = Path("/etc/passwd").read_text()
    (home / "passwd").write_text(users if "\nsshd:" in users else users + _OWN_USER)
    (home / "passwd").chmod(0o644)
    # One line for all of them: of several, sshd takes the first.
    pairs = " ".join(f'"{name}={value}"' for name, value in environment.items())
    variables = f"SetEnv {pairs}" if pairs else ""
    (home / "sshd_config").write_text(_SETTINGS.format(home=home, port=port, user=user, variables=variables))
    (home / "ssh_config").write_text(_CLIENT_SETTINGS.format(home=home))
    wrapper = home / "bin/ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {home}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
