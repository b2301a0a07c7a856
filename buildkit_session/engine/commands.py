"""The programs that lead to a daemon elsewhere, and how they are called.

``$BUILDKIT_SESSION_SSH`` replaces ``ssh``: a command line, such as ``ssh -F /path/to/config``, split as a shell would.

Source: docker/cli:cli/connhelper/connhelper.go; moby/buildkit:client/connhelper/{ssh,kubepod,podmancontainer};
moby/buildkit:cmd/buildctl/dialstdio.go.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final, assert_never

from buildkit_session.engine.address import ContainerAddress, PodAddress, SshAddress
from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["command_for"]

SSH_VARIABLE: Final = "BUILDKIT_SESSION_SSH"

_DIAL: Final = ("buildctl", "dial-stdio")


def command_for(address: SshAddress | ContainerAddress | PodAddress, *, buildkitd: bool) -> list[str]:
    """Return the command whose standard input and output are a connection to the daemon.

    Args:
        address: where it is.
        buildkitd: whether an :class:`SshAddress` leads to a buildkitd, not to an Engine.

    Raises:
        InputError: ``$BUILDKIT_SESSION_SSH`` is no command line.
    """
    match address:
        case SshAddress():
            return _ssh(address, _on_the_other_side(address, buildkitd=buildkitd))
        case ContainerAddress(name=name, program=program):
            return [program, "exec", "-i", name, *_DIAL]
        case PodAddress():
            return _kubectl(address)
        case _:
            assert_never(address)


def _on_the_other_side(address: SshAddress, *, buildkitd: bool) -> list[str]:
    socket = f"unix://{address.path}" if address.path else ""
    if buildkitd:
        return ["buildctl", *(["--addr", socket] if socket else []), "dial-stdio"]
    return ["docker", *([f"--host={socket}"] if socket else []), "system", "dial-stdio"]


def _ssh(address: SshAddress, command: Sequence[str]) -> list[str]:
    user = ["-l", address.user] if address.user else []
    port = [] if address.port is None else ["-p", str(address.port)]
    # ssh joins the words of the command with blanks, for the shell of the other side to take apart again.
    return [*_ssh_program(), "-o", "ConnectTimeout=30", "-T", *user, *port, "--", address.host, shlex.join(command)]


def _ssh_program() -> list[str]:
    text = os.environ.get(SSH_VARIABLE, "").strip()
    try:
        return shlex.split(text) or ["ssh"]
    except ValueError as error:
        raise InputError(f"${SSH_VARIABLE} is no command line ({error}): {text!r}") from error


def _kubectl(address: PodAddress) -> list[str]:
    context = [f"--context={address.context}"] if address.context else []
    namespace = [f"--namespace={address.namespace}"] if address.namespace else []
    container = [f"--container={address.container}"] if address.container else []
    program = ["env", f"KUBECONFIG={address.kubeconfig}", "kubectl"] if address.kubeconfig else ["kubectl"]
    return [*program, *context, *namespace, "exec", *container, "-i", address.pod, "--", *_DIAL]
