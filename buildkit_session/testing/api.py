"""Ask a Docker daemon over its REST API, with the standard library alone: the tests must not lean on what they test."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from buildkit_session.testing.errors import DaemonUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Api", "Refused"]


class Refused(Exception):
    """The daemon answered, with a status that says no.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Api:
    """The REST API of one daemon; a connection for every request.

    Attributes:
        address: ``unix:///path`` or ``tcp://host:port`` (without TLS).
        timeout: seconds for each step of an exchange.
    """

    address: str
    timeout: float = 60

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a value and return the value that is answered; ``None`` for an empty answer.

        Raises:
            DaemonUnavailable: nobody answers there, or not as a Docker daemon does.
            Refused: the daemon says no.
        """
        raw = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if raw is not None else {}
        answer = self.transfer(method, path, raw, headers=headers)
        try:
            return json.loads(answer) if answer else None
        except ValueError as error:
            raise self._stranger(error) from error

    def transfer(
        self, method: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Send bytes and return the body of the answer.

        Raises:
            DaemonUnavailable: nobody answers there, or not as a Docker daemon does.
            Refused: the daemon says no.
        """
        try:
            with closing(_connection(self.address, self.timeout)) as connection:
                connection.request(method, path, body, dict(headers or {}))
                response = connection.getresponse()
                answer = response.read()
        except OSError as error:
            raise DaemonUnavailable(f"no daemon answers at {self.address}: {error.strerror or error}") from error
        except HTTPException as error:
            raise self._stranger(error) from error
        if response.status >= 400:
            raise Refused(response.status, answer.decode(errors="replace").strip())
        return answer

    def _stranger(self, error: Exception) -> DaemonUnavailable:
        return DaemonUnavailable(f"what answers at {self.address} is not a Docker daemon: {error!r}")


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(address: str, timeout: float) -> HTTPConnection:
    scheme, _, rest = address.partition("://")
    if scheme == "unix":
        return _UnixConnection(rest, timeout=timeout)
    url = urlsplit(address)
    if scheme == "tcp" and url.hostname and url.port:
        return HTTPConnection(url.hostname, url.port, timeout=timeout)
    raise DaemonUnavailable(f"only unix:///path and tcp://host:port are understood here, not {address!r}")
