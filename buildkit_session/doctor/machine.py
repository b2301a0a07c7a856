"""What a build finds on this machine beside the daemon: credentials, an ssh agent, the builders of buildx, sockets.

Nothing is started or changed, and no secret is read: helpers are looked for, not asked.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from buildkit_session.docker_directory import docker_directory
from buildkit_session.docker_settings import Settings
from buildkit_session.doctor.finding import Finding, Level
from buildkit_session.engine.address import DEFAULT_SOCKET
from buildkit_session.engine.builders import find_builder
from buildkit_session.errors import InputError, SessionError
from buildkit_session.services.credential_helper import find_helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["find_sockets", "look_around"]

PATIENCE: Final = 1.0
"""Seconds for the ssh agent to take a connection."""


def look_around(environ: Mapping[str, str]) -> list[Finding]:
    """Examine what ``environ`` leads to."""
    return [*_credentials(environ), *_agent(environ), *_builders(environ)]


def find_sockets(environ: Mapping[str, str]) -> list[str]:
    """Return the addresses of daemons' sockets that exist in the usual places, whoever listens there."""
    home = Path(environ.get("HOME") or Path.home())
    runtime = environ.get("XDG_RUNTIME_DIR")
    places = [
        Path(DEFAULT_SOCKET),
        *([Path(runtime, "docker.sock")] if runtime else []),
        home / ".docker/run/docker.sock",
        home / ".docker/desktop/docker.sock",
        Path("/run/buildkit/buildkitd.sock"),
        *([Path(runtime, "buildkit/buildkitd.sock")] if runtime else []),
    ]
    return [f"unix://{place}" for place in places if _is_socket(place)]


def _credentials(environ: Mapping[str, str]) -> Iterator[Finding]:
    file = docker_directory(environ) / "config.json"
    try:
        config = Settings.read(file, missing_ok=True)
        helpers, known = _helpers(config), [*_known(config, environ)]
    except InputError as error:
        yield Finding(Level.BROKEN, "credentials", str(error), "correct that file, or move it away")
        return
    missing = {helper: place for helper, place in helpers.items() if not _installed(helper, environ)}
    for helper, place in missing.items():
        text = f"docker-credential-{helper} is not installed, but {file} names it for {place}"
        yield Finding(Level.BROKEN, "credentials", text, f"install it, or take {helper!r} out of that file")
    if not missing:
        yield Finding(Level.OK, "credentials", ", ".join(known) or "none: only public images can be pulled")


def _known(config: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Say which credentials there are, without looking at any."""
    if environ.get("DOCKER_AUTH_CONFIG"):
        yield "those in DOCKER_AUTH_CONFIG"
    if store := config.text("credsStore"):
        yield f"those that docker-credential-{store} keeps"
    if names := {**config.table("auths").entries, **config.table("credHelpers").entries}:
        yield f"for {', '.join(names)}"


def _helpers(config: Settings) -> dict[str, str]:
    """The helpers that are named, and what for."""
    store = config.text("credsStore")
    named = {helper: host for host, helper in config.table("credHelpers").texts().items()}
    return {**named, **({store: "all registries"} if store else {})}


def _installed(helper: str, environ: Mapping[str, str]) -> bool:
    try:
        return find_helper(helper, environ) is not None
    except InputError:  # it is no name that a helper can have
        return False


def _agent(environ: Mapping[str, str]) -> Iterator[Finding]:
    path = environ.get("SSH_AUTH_SOCK")
    if not path:
        yield Finding(
            Level.LIMITED, "ssh agent", "SSH_AUTH_SOCK is not set", "for --ssh default start one: eval $(ssh-agent)"
        )
    elif reason := _refusal(path):
        advice = "start an agent and set SSH_AUTH_SOCK to its socket: eval $(ssh-agent)"
        yield Finding(Level.LIMITED, "ssh agent", f"nobody answers at {path}: {reason}", advice)
    else:
        yield Finding(Level.OK, "ssh agent", f"at {path}")


def _refusal(path: str) -> str:
    """Say why no connection can be made to a socket; empty if one can."""
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(path)
        except OSError as error:  # also of a path that is too long
            return error.strerror or str(error)
    return ""


def _builders(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Say which builder buildx has chosen, where it is not that of a docker context."""
    try:
        builder = find_builder(environ=environ)
    except SessionError as error:
        advice = "choose another one for docker buildx: docker buildx use NAME"
        yield Finding(Level.LIMITED, "buildx", str(error), advice)
        return
    if not builder.is_context:
        yield Finding(Level.OK, "buildx", f"the current builder is {builder.name!r} ({builder.driver})")


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
