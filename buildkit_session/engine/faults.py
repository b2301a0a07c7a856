"""The border where exceptions of the operating system become ours, with words on what to try."""

from __future__ import annotations

import json
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from buildkit_session.engine.address import ContainerAddress, PodAddress, SshAddress, UnixSocket
from buildkit_session.errors import ConnectionClosed, EngineUnreachable

if TYPE_CHECKING:
    from buildkit_session.engine.address import Endpoint

__all__ = ["broken_off", "error_text", "shortened", "unreachable"]

# Error text of a peer that is kept.
MAX_TEXT = 4096


def unreachable(endpoint: Endpoint, reason: OSError) -> EngineUnreachable:
    """Make the error for a daemon that no connection can be opened to."""
    why = reason.strerror or str(reason) or "no answer in time"
    name = "buildkitd" if endpoint.is_buildkitd else "Docker Engine"
    return EngineUnreachable(f"cannot reach a {name} at {endpoint}: {shortened(why)}. {_advice(endpoint, reason)}")


def broken_off(endpoint: Endpoint, reason: Exception) -> ConnectionClosed:
    """Make the error for a connection that ended during a request or its answer."""
    why = shortened(str(reason) or type(reason).__name__)
    return ConnectionClosed(f"the connection to the Engine at {endpoint} broke off: {why}")


def error_text(body: bytes) -> str:
    """Return what the body of an error answer says: the ``message`` of an Engine's JSON, or another server's text."""
    with suppress(ValueError, RecursionError):
        answer = json.loads(body)
        if isinstance(answer, dict) and isinstance(answer.get("message"), str):
            return shortened(answer["message"].strip())
    return shortened(body.decode("utf-8", "replace").strip())


def shortened(text: str, *, limit: int = MAX_TEXT) -> str:
    """Cut the middle out of text above ``limit`` characters: BuildKit says what failed first and why last."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


def _advice(endpoint: Endpoint, reason: OSError) -> str:
    if isinstance(reason, PermissionError):
        return (
            "Use an account that may open the socket: a member of the group that owns it (usually 'docker': "
            "sudo usermod -aG docker $USER, then log in again), or root (sudo)."
        )
    if isinstance(reason, ssl.SSLError | ssl.CertificateError):
        return "Look at the TLS settings: DOCKER_TLS_VERIFY, DOCKER_CERT_PATH, or those of the docker context."
    if isinstance(endpoint.address, SshAddress):
        what = "buildctl" if endpoint.buildkitd else "docker version"
        return (
            f"Check that 'ssh {endpoint.address.host} {what}' works and asks for nothing: no password can be typed "
            "here, so use a key and an ssh agent."
        )
    if isinstance(endpoint.address, ContainerAddress | PodAddress):
        return "Check that it runs, and that a buildkitd runs in it."
    if isinstance(endpoint.address, UnixSocket):
        return (
            "Start the daemon, or name another address, such as unix:///path/to/docker.sock or "
            "docker-container://name (--host, connect(); for an Engine DOCKER_HOST too)."
        )
    return "Check that the Engine runs, listens on this host and port, and is not behind a firewall."
