"""What a build finds on this machine beside the daemon: credentials, an ssh agent, the builders of buildx, sockets.

Nothing is started or changed, and no secret is read: helpers are looked for, not asked.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from buildkit_session.engine.address import DEFAULT_SOCKET
from buildkit_session.engine.buildx_state import docker_directory, list_builders
from buildkit_session.errors import InputError
from buildkit_session.finding import Finding, Level
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
        config = json.loads(file.read_bytes())
    except FileNotFoundError:
        config = {}
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        yield Finding(
            Level.BROKEN, "credentials", f"{file} cannot be read", "make it a JSON object again, or move it away"
        )
        return
    missing = {helper: place for helper, place in _helpers(config) if not _installed(helper, environ)}
    for helper, place in missing.items():
        yield Finding(
            Level.BROKEN,
            "credentials",
            f"docker-credential-{helper} is not installed, but {file} names it for {place}",
            f"install docker-credential-{helper}, or take {helper!r} out of that file",
        )
    if not missing:
        known = list(_known(config, environ))
        yield Finding(Level.OK, "credentials", ", ".join(known) or "none: only public images can be pulled")


def _known(config: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Say which credentials there are, without looking at any."""
    if environ.get("DOCKER_AUTH_CONFIG"):
        yield "those in DOCKER_AUTH_CONFIG"
    if store := config.get("credsStore"):
        yield f"those that docker-credential-{store} keeps"
    if names := {**_table(config, "auths"), **_table(config, "credHelpers")}:
        yield f"for {', '.join(names)}"


def _helpers(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(store := config.get("credsStore"), str) and store:
        yield store, "all registries"
    for host, helper in _table(config, "credHelpers").items():
        if isinstance(helper, str):
            yield helper, host


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


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
    builders = list_builders(environ)
    if builders:
        names = [f"{one.name} ({one.driver}{', current' if one.current else ''})" for one in builders]
        yield Finding(Level.OK, "buildx", f"has the builders {', '.join(names)}")
    chosen = environ.get("BUILDX_BUILDER")
    if chosen and chosen not in {one.name for one in builders} and not _is_context(chosen, environ):
        text = f"BUILDX_BUILDER names the builder {chosen!r}, which buildx does not have"
        yield Finding(Level.LIMITED, "buildx", text, f"unset it, or docker buildx create --name {chosen}")


def _is_context(name: str, environ: Mapping[str, str]) -> bool:
    """Whether it is a docker context; buildx has a builder for each."""
    digest = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return name == "default" or (docker_directory(environ) / "contexts/meta" / digest).is_dir()


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
