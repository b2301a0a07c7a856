"""Addresses of Docker Engines: the text a person writes, as values.

Source: docker/cli:opts/hosts.go (ParseHost), moby/moby:client/client.go (ParseHostURL).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from buildkit_session.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from buildkit_session.engine.api_version import ApiVersion

__all__ = ["DEFAULT_SOCKET", "Address", "Endpoint", "TcpAddress", "TlsFiles", "UnixSocket", "parse_address"]

DEFAULT_SOCKET = "/var/run/docker.sock"

Scheme: TypeAlias = Literal["tcp", "http", "https"]

_FORMS = "use unix:///path/to/docker.sock or tcp://host:port"

# tcp:// means 2375 even when TLS is on (docker/cli:opts/hosts.go); the other two are plain URLs.
_DEFAULT_PORTS: dict[Scheme, int] = {"tcp": 2375, "http": 80, "https": 443}
_TCP_SCHEMES: dict[str, Scheme] = {scheme: scheme for scheme in _DEFAULT_PORTS}

_NOT_YET = {
    "ssh": "forward the remote socket with 'ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock USER@HOST' "
    "and use unix:///tmp/docker.sock",
    "npipe": "named pipes need Windows; let the Engine listen on tcp:// or run inside WSL",
    "fd": "fd:// only tells a daemon which socket it inherits; use the unix:// path of that socket",
}


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A unix socket in the file system; a relative path counts from the working directory."""

    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and port.

    Attributes:
        host: a name or an IP address, IPv6 without brackets.
        port: 1 to 65535.
        base: put before every REST path: empty, or ``/a/b`` without a slash at the end.
        scheme: ``https`` demands TLS, ``http`` forbids it, ``tcp`` leaves it to the TLS settings.
    """

    host: str
    port: int
    base: str = ""
    scheme: Scheme = "tcp"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.base}"


Address: TypeAlias = UnixSocket | TcpAddress


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """TLS is spoken, with these PEM files.

    Attributes:
        ca: the only authorities trusted; ``None`` trusts those of the system.
        cert: the client certificate, or ``None``; comes together with ``key``.
        key: its unencrypted private key.
        verify: whether the server's certificate and name are checked.
        server_name: the name that the server's certificate must show; by default the host of the address.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    verify: bool = True
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One Engine and how to talk to it.

    Attributes:
        address: where it listens.
        tls: ``None`` speaks plain HTTP.
        source: where the address came from, for people: ``$DOCKER_HOST``, ``docker context 'x'``.
        headers: sent with every request.
        api_version: pinned by the user; ``None`` negotiates.
    """

    address: Address
    tls: TlsFiles | None = None
    source: str = "the address argument"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold credentials: not in a repr
    api_version: ApiVersion | None = None

    def __str__(self) -> str:
        return f"{self.address} (from {self.source})"


def parse_address(text: str, *, source: str = "the address argument") -> Address:
    """Read the address of an Engine.

    Args:
        text: ``unix://PATH``, ``tcp://HOST[:PORT][/BASE]``, ``HOST:PORT``, ``http://...`` or ``https://...``.
            ``unix://`` without a path is the default socket, ``tcp://`` without a host is localhost.
        source: where the text came from, for the errors.

    Raises:
        InputError: the text is no address; the error shows the right form.
        UnsupportedError: ``ssh://``, ``npipe://`` and ``fd://``; the error says what to do instead.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        return _parse_bare(scheme, source)
    scheme = scheme.lower()
    if scheme == "unix":
        return _parse_unix(rest, text, source)
    if scheme in _TCP_SCHEMES:
        return _parse_tcp(_TCP_SCHEMES[scheme], rest, text, source)
    if scheme in _NOT_YET:
        msg = f"{scheme}:// addresses are not supported ({text!r} from {source}): {_NOT_YET[scheme]}"
        raise UnsupportedError(msg)
    raise _bad(text, source, f"the scheme {scheme!r} is unknown")


def _parse_bare(text: str, source: str) -> TcpAddress:
    if text.startswith("/"):
        msg = f"{text!r} from {source} is not an Engine address: a socket is written unix://{text}"
        raise InputError(msg)
    # Without a port a bare word is more often a typing error or the name of a context than a host.
    if not text.rpartition(":")[2].isdecimal():
        raise _bad(text, source, "neither a scheme nor HOST:PORT")
    return _parse_tcp("tcp", text, text, source)


def _parse_unix(path: str, text: str, source: str) -> UnixSocket:
    if "\0" in path:
        raise _bad(text, source, "the path holds a NUL byte")
    return UnixSocket(path or DEFAULT_SOCKET)


def _parse_tcp(scheme: Scheme, rest: str, text: str, source: str) -> TcpAddress:
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "localhost", parts.port
    except ValueError as exc:
        raise _bad(text, source, str(exc)) from exc
    if problem := _url_problem(parts, host, port):
        raise _bad(text, source, problem)
    return TcpAddress(host, port or _DEFAULT_PORTS[scheme], parts.path.rstrip("/"), scheme)


def _url_problem(parts: SplitResult, host: str, port: int | None) -> str | None:
    if "@" in parts.netloc:
        return "user names and passwords do not belong in it"
    if parts.query or parts.fragment:
        return "a query or fragment does not belong in it"
    if port == 0 or parts.netloc.endswith(":"):
        return "the port is missing or zero"
    if not (host + parts.path).isprintable() or " " in host + parts.path:
        return "the host or path holds a blank or control character"
    return None


def _bad(text: str, source: str, why: str) -> InputError:
    return InputError(f"{text!r} from {source} is not an Engine address ({why}): {_FORMS}")
