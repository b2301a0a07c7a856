"""The border where exceptions of aiohttp and the operating system become ours, with words on what to try."""

from __future__ import annotations

import json
import ssl
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import aiohttp

from buildkit_session.engine.address import UnixSocket
from buildkit_session.errors import ConnectionClosed, EngineError, EngineUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.engine.address import Endpoint

__all__ = ["error_text", "shortened", "translated_faults", "unreachable"]

# Error text of a peer that is kept.
MAX_TEXT = 4096


@contextmanager
def translated_faults(endpoint: Endpoint) -> Iterator[None]:
    """Translate what aiohttp or a socket raises while talking to ``endpoint``.

    Some errors of aiohttp quote the whole URL, and the query of ``/build`` holds build arguments, where people put
    secrets: their text goes nowhere, and they are not chained.

    Raises:
        EngineUnreachable: no connection came about, or no answer in time.
        EngineError: whoever answers does not speak HTTP.
        ConnectionClosed: the connection broke off during a request or its answer.
    """
    try:
        yield
    except aiohttp.ClientConnectorError as exc:
        raise unreachable(endpoint, exc.os_error) from exc
    except aiohttp.ServerTimeoutError:
        raise unreachable(endpoint, TimeoutError()) from None
    except TimeoutError as exc:
        raise unreachable(endpoint, exc) from exc
    except aiohttp.ClientResponseError as exc:
        msg = f"what answers at {endpoint} does not speak HTTP as an Engine does: {shortened(exc.message)}"
        raise EngineError(msg) from None
    except (aiohttp.ClientError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError) as exc:
        msg = f"the connection to the Engine at {endpoint} broke off: {shortened(str(exc) or type(exc).__name__)}"
        raise ConnectionClosed(msg) from exc
    except OSError as exc:
        raise unreachable(endpoint, exc) from exc


def unreachable(endpoint: Endpoint, reason: OSError) -> EngineUnreachable:
    """Make the error for an Engine that no connection can be opened to."""
    why = reason.strerror or str(reason) or "no answer in time"
    return EngineUnreachable(
        f"cannot reach a Docker Engine at {endpoint}: {shortened(why)}. {_advice(endpoint, reason)}"
    )


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
    if isinstance(endpoint.address, UnixSocket):
        return (
            "Start the Engine, or name another address, such as unix:///path/to/docker.sock (or set DOCKER_HOST to it)."
        )
    return "Check that the Engine runs, listens on this host and port, and is not behind a firewall."
