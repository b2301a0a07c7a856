"""An ssh agent for keys without a passphrase: OpenSSH's own, started for a build and ended with it.

It serves where the library that :mod:`~buildkit_session.services.private_keys` needs is not installed. The agent is the
child of a shell that waits for the end of its input: it does not outlive this process, however that ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread

from buildkit_session.errors import InputError, SessionError
from buildkit_session.services.agent_socket import AgentSocket
from buildkit_session.services.key_file import read_key
from buildkit_session.services.programs import find_program, kill, run_program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from anyio.abc import Process

__all__ = ["key_agent"]

PATIENCE: Final = 10.0
"""Seconds for the agent to start, and to take a key."""

POLL: Final = 0.01

MAX_OUTPUT: Final = 64 * 1024

# $0 is the agent's program, $1 its socket.
_AGENT: Final = 'umask 077; "$0" -D -a "$1" </dev/null >/dev/null & agent=$!; read -r _; kill "$agent"'


@asynccontextmanager
async def key_agent(
    keys: Iterable[str | os.PathLike[str] | bytes], *, environ: Mapping[str, str] | None = None
) -> AsyncIterator[AgentSocket]:
    """Run an agent that has some keys.

    Args:
        keys: paths of private keys without a passphrase, or such keys themselves.
        environ: names, by its ``PATH``, where OpenSSH is.

    Raises:
        InputError: (on entering) a file is no such key, or OpenSSH is not installed.
    """
    environ = os.environ if environ is None else environ
    agent_program, add_program = [
        await to_thread.run_sync(_require, name, environ) for name in ("ssh-agent", "ssh-add")
    ]
    home = Path(await to_thread.run_sync(tempfile.mkdtemp, "", "bks-agent-"))  # its owner's alone
    try:
        socket = home / "socket"
        process = await anyio.open_process(
            ["/bin/sh", "-c", _AGENT, agent_program, str(socket)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=True,
        )
        try:
            agent = AgentSocket(socket)
            await _ready(process, agent)
            for key in keys:
                await _add(add_program, key, {**environ, "SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS_REQUIRE": "never"})
            yield agent
        finally:
            with anyio.CancelScope(shield=True):
                await kill(process)
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(shutil.rmtree, home, True)


def _require(name: str, environ: Mapping[str, str]) -> str:
    if (program := find_program(name, environ)) is None:
        raise InputError(f"ssh key files are forwarded by {name}, which is not installed: install OpenSSH's client")
    return program


async def _ready(process: Process, agent: AgentSocket) -> None:
    """Wait until the agent takes connections."""
    with anyio.move_on_after(PATIENCE):
        while process.returncode is None:
            try:
                async with agent.connect():
                    return
            except SessionError:
                await anyio.sleep(POLL)
    raise InputError("ssh-agent did not start: does it run when you start it by hand?")


async def _add(program: str, given: str | os.PathLike[str] | bytes, environ: Mapping[str, str]) -> None:
    """Hand a key over, by a pipe: of a file, its permissions might not please ssh-add."""
    name = "the key in memory" if isinstance(given, bytes) else os.fspath(given)
    key = given if isinstance(given, bytes) else await to_thread.run_sync(read_key, given)
    try:
        with anyio.fail_after(PATIENCE):
            status, _ = await run_program([program, "-q", "-"], key, environ, max_output=MAX_OUTPUT)
    except (TimeoutError, OSError) as error:
        raise InputError(f"ssh-add cannot be run for {name}: {type(error).__name__}") from error
    if status != 0:
        raise InputError(f"ssh-add does not take {name}: is it a private key without a passphrase?")
