"""Asks a daemon what it is: a Docker Engine, a buildkitd or Podman.

An Engine answers ``/_ping``. A buildkitd speaks nothing but HTTP/2: to a request in HTTP/1.1 it sends the frame that
opens its side, or hangs up; with TLS it agrees to nothing but ``h2``.

Source: moby/moby:client/ping.go; containers/podman:pkg/api/handlers/compat/ping.go; RFC 9113, section 3.4;
grpc/grpc-go:internal/transport/http2_server.go (NewServerTransport); docker/go-connections:sockets/tcp_socket.go.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from buildkit_session.engine.address import TcpAddress
from buildkit_session.engine.dialing import PATIENCE, dial
from buildkit_session.engine.exchange import NO_BODIES, Answer, base_path, exchange, make_request
from buildkit_session.engine.faults import broken_off, error_text, unreachable
from buildkit_session.engine.info import EngineInfo, foreign_text, read_info, server_text
from buildkit_session.errors import EngineError, EngineUnreachable, UnsupportedError

if TYPE_CHECKING:
    from buildkit_session.engine.address import Endpoint

__all__ = ["BuildkitdFound", "Found", "PodmanFound", "ping", "podman_text", "probe"]

# RFC 9113, section 3.4: what a client of HTTP/2 begins with, here with an empty SETTINGS frame.
_OPENING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@dataclass(frozen=True, slots=True)
class BuildkitdFound:
    """A buildkitd listens there: it speaks HTTP/2 from the first byte."""


@dataclass(frozen=True, slots=True)
class PodmanFound:
    """Podman answers in the Engine's place; it runs no BuildKit.

    Attributes:
        server: product and version, such as ``Libpod/5.4.2 (linux)``.
    """

    server: str


Found: TypeAlias = EngineInfo | BuildkitdFound | PodmanFound


async def ping(endpoint: Endpoint, *, patience: float = PATIENCE) -> EngineInfo:
    """Ask an Engine what it is.

    Args:
        endpoint: the Engine.
        patience: seconds for a connection, and again for the answer.

    Raises:
        EngineUnreachable: no connection, or no answer in time.
        EngineError: what answers is no Engine.
        ConnectionClosed: the connection broke off before an answer.
        UnsupportedError: it is Podman, or too old for this library.
    """
    answer = await _asked(endpoint, patience)
    if answer.status == 200:
        if (server := server_text(answer)).startswith("Libpod/"):
            raise UnsupportedError(podman_text(server, endpoint))
        return read_info(answer, endpoint)
    raise _failure(answer, endpoint)


async def probe(endpoint: Endpoint, *, patience: float = PATIENCE) -> Found:
    """Find out what listens at an address; one question for an Engine, at most three for a buildkitd.

    Where an address can lead to nothing but a buildkitd, nothing is asked.

    Args:
        endpoint: the daemon.
        patience: seconds for each connection, and again for each answer.

    Raises:
        EngineUnreachable: no connection, or no answer in time.
        EngineError: what answers is neither.
        ConnectionClosed: the connection broke off before an answer.
        UnsupportedError: it is an Engine too old for this library.
    """
    if endpoint.is_buildkitd:
        return BuildkitdFound()
    try:
        answer = await _asked(endpoint, patience, alpn=("http/1.1",))
    except EngineUnreachable as error:
        # A handshake that fails over ALPN says so in words that differ between versions of OpenSSL.
        if isinstance(error.__cause__, ssl.SSLError) and await _agrees_on_h2(endpoint, patience):
            return BuildkitdFound()
        raise
    if _opens_http2(answer.head):
        return BuildkitdFound()
    if answer.status == 200:
        server = server_text(answer)
        return PodmanFound(server) if server.startswith("Libpod/") else read_info(answer, endpoint)
    if answer.ended and not answer.head and await _answers_http2(endpoint, patience):
        return BuildkitdFound()
    raise _failure(answer, endpoint)


async def _asked(endpoint: Endpoint, patience: float, *, alpn: tuple[str, ...] = ()) -> Answer:
    """Ask with HEAD, then with GET: proxies and old Engines refuse HEAD."""
    answer = await _ask(endpoint, "HEAD", patience, alpn)
    if answer.status in (0, 200):
        return answer
    return await _ask(endpoint, "GET", patience, alpn)


async def _ask(endpoint: Endpoint, method: str, patience: float, alpn: tuple[str, ...]) -> Answer:
    request = make_request(endpoint, f"{method} {base_path(endpoint.address)}/_ping", [("Connection", "close")])
    no_body = NO_BODIES if method == "HEAD" else ()
    try:
        transport, answer = await exchange(endpoint, request, head_only=no_body, alpn=alpn, patience=patience)
    except (ConnectionResetError, ConnectionAbortedError, BrokenPipeError):
        return Answer(b"", ended=True)
    except OSError as error:
        raise unreachable(endpoint, error) from error
    transport.abort()
    if not answer.head and not answer.ended:
        raise unreachable(endpoint, TimeoutError())
    return answer


def _failure(answer: Answer, endpoint: Endpoint) -> Exception:
    if answer.status:
        if answer.status == 404 and not _speaks_json(answer):
            reason = f"HTTP 404 for {base_path(endpoint.address)}/_ping, which every Engine knows"
            return EngineError(foreign_text(endpoint, reason), status=answer.status)
        text = error_text(answer.body()) or "no reason given"
        msg = f"the Engine at {endpoint} refused GET {base_path(endpoint.address)}/_ping: {text} (HTTP {answer.status})"
        return EngineError(msg, status=answer.status)
    if not answer.head:
        wants_tls = isinstance(endpoint.address, TcpAddress) and endpoint.tls is None
        hint = "; does it want TLS?" if wants_tls else ""
        return broken_off(endpoint, EOFError(f"it was closed before an answer came{hint}"))
    if _opens_http2(answer.head):
        return EngineError(f"what answers at {endpoint} speaks HTTP/2, as a buildkitd does, not HTTP as an Engine does")
    return EngineError(
        f"what answers at {endpoint} does not speak HTTP as an Engine does: it sent {answer.head[:100]!r}"
    )


def _speaks_json(answer: Answer) -> bool:
    """Whether a refusal has the form that all refusals of an Engine have."""
    return answer.field("Content-Type").startswith("application/json")


def podman_text(server: str, endpoint: Endpoint) -> str:
    """Say what to do where Podman answers."""
    return (
        f"{server} answers at {endpoint}: Podman runs no BuildKit. Start one with 'podman run -d --name buildkitd "
        "--privileged docker.io/moby/buildkit' and use the address podman-container://buildkitd"
    )


def _opens_http2(received: bytes) -> bool:
    """Whether this begins with a SETTINGS frame, as RFC 9113, section 3.4 demands of a server."""
    return len(received) >= 9 and received[0] == 0 and received[3] == 4 and received[5:9] == bytes(4)


async def _agrees_on_h2(endpoint: Endpoint, patience: float) -> bool:
    """Whether h2 was missing in the handshake before; what is wrong beside that is raised here."""
    transport, _ = await dial(endpoint, asyncio.Protocol, alpn=("h2",), patience=patience)
    session = transport.get_extra_info("ssl_object")
    transport.abort()
    return session is not None and session.selected_alpn_protocol() == "h2"


async def _answers_http2(endpoint: Endpoint, patience: float) -> bool:
    try:
        transport, answer = await exchange(endpoint, _OPENING, alpn=("h2",), patience=patience)
    except (OSError, EngineUnreachable):
        return False
    transport.abort()
    return _opens_http2(answer.head)
