"""Ask a Docker daemon who it is, with the standard library alone: the tests must not lean on what they test."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from buildkit_session.testing.errors import DaemonUnavailable

__all__ = ["Answer", "probe"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a daemon says of itself: its version (``20.10.24+dfsg1``) and the newest API it speaks (``1.41``)."""

    version: str
    api_version: str


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def probe(address: str, *, timeout: float = 10) -> Answer:
    """Ask the daemon at an address for its version.

    Args:
        address: ``unix:///path`` or ``tcp://host:port`` (without TLS).
        timeout: seconds for each step of the exchange.

    Raises:
        DaemonUnavailable: nobody answers there, or not as a Docker daemon does.
    """
    connection = _connection(address, timeout)
    try:
        connection.request("GET", "/version")
        response = connection.getresponse()
        fields = json.loads(response.read(1 << 20))
        return Answer(version=str(fields["Version"]), api_version=str(fields["ApiVersion"]))
    except OSError as error:
        raise DaemonUnavailable(f"no daemon answers at {address}: {error.strerror or error}") from error
    except (HTTPException, ValueError, KeyError, TypeError) as error:
        raise DaemonUnavailable(f"what answers at {address} is not a Docker daemon: {error!r}") from error
    finally:
        connection.close()


def _connection(address: str, timeout: float) -> HTTPConnection:
    scheme, _, rest = address.partition("://")
    if scheme == "unix":
        return _UnixConnection(rest, timeout=timeout)
    url = urlsplit(address)
    if scheme == "tcp" and url.hostname and url.port:
        return HTTPConnection(url.hostname, url.port, timeout=timeout)
    raise DaemonUnavailable(f"only unix:///path and tcp://host:port are understood here, not {address!r}")
