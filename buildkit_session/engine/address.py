"""Addresses of Docker Engines and buildkitds: the text a person writes, as values.

Source: docker/cli:opts/hosts.go (ParseHost), moby/moby:client/client.go (ParseHostURL),
docker/cli:cli/connhelper/ssh/ssh.go, moby/buildkit:client/connhelper.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from buildkit_session.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from buildkit_session.engine.api_version import ApiVersion

__all__ = [
    "ARGUMENT",
    "BUILDX_PREFIX",
    "DEFAULT_SOCKET",
    "Address",
    "ContainerAddress",
    "Endpoint",
    "PodAddress",
    "SshAddress",
    "TcpAddress",
    "TlsFiles",
    "UnixSocket",
    "parse_address",
]

DEFAULT_SOCKET = "/var/run/docker.sock"

ARGUMENT: Final = "the address argument"
"""Where an address comes from that a program has given."""

BUILDX_PREFIX: Final = "buildx_buildkit_"
"""What the names of buildx's containers begin with, before that of the node."""

Scheme: TypeAlias = Literal["tcp", "http", "https"]
ContainerProgram: TypeAlias = Literal["docker", "podman", "nerdctl"]

_FORMS = (
    "use unix:///path/to/docker.sock, tcp://host:port or ssh://user@host; --host and connect() also take "
    "docker-container://name, podman-container://name, nerdctl-container://name and kube-pod://name"
)

# tcp:// means 2375 even when TLS is on (docker/cli:opts/hosts.go); the other two are plain URLs.
_DEFAULT_PORTS: dict[Scheme, int] = {"tcp": 2375, "http": 80, "https": 443}
_TCP_SCHEMES: dict[str, Scheme] = {scheme: scheme for scheme in _DEFAULT_PORTS}

_CONTAINER_SCHEMES: dict[str, ContainerProgram] = {
    "docker-container": "docker",
    "podman-container": "podman",
    "nerdctl-container": "nerdctl",
}

_NEVER = {
    "npipe": "named pipes need Windows; let the Engine listen on tcp:// or run inside WSL",
    "fd": "fd:// only tells a daemon which socket it inherits; use the unix:// path of that socket",
}

# moby/moby:daemon/names/names.go; the others allow no more than that. None begins as an option of a program does.
_CONTAINER_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
# moby/buildkit:client/connhelper/kubepod/kubepod.go, validKubeIdentifier, but nothing that looks like an option.
_KUBERNETES_NAME: Final = re.compile(r"[a-z0-9.][-a-z0-9.]*", re.ASCII)


class UnixSocket(NamedTuple):
    """A unix socket in the file system; a relative path counts from the working directory."""

    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


class TcpAddress(NamedTuple):
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


class SshAddress(NamedTuple):
    """A daemon on another machine, reached through the ``ssh`` program.

    Attributes:
        host: a name, also one of the user's ssh configuration, or an IP address without brackets.
        user: empty leaves it to ssh.
        port: ``None`` leaves it to ssh.
        path: the daemon's unix socket there; empty leaves it to the program that is run there.
    """

    host: str
    user: str = ""
    port: int | None = None
    path: str = ""

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"ssh://{user}{host}{port}{quote(self.path)}"


class ContainerAddress(NamedTuple):
    """A buildkitd inside of a container, reached by running ``buildctl dial-stdio`` there.

    Attributes:
        name: of the container, or its id.
        context: the docker context whose Engine runs it; empty for the current one. For ``docker`` only.
        program: what runs the container.
    """

    name: str
    context: str = ""
    program: ContainerProgram = "docker"

    def __str__(self) -> str:
        query = f"?{urlencode({'context': self.context})}" if self.context else ""
        return f"{self.program}-container://{self.name}{query}"


class PodAddress(NamedTuple):
    """A buildkitd in Kubernetes, reached by the ``kubectl`` program running ``buildctl dial-stdio`` there.

    Attributes:
        pod: its name; ``deployment/NAME`` leaves the choice among the pods of a deployment to kubectl.
        context: of the kubeconfig; empty for the current one.
        namespace: empty for that of the context.
        container: empty for the pod's first one.
        kubeconfig: as ``$KUBECONFIG``; empty leaves it to the environment. No part of the text.
    """

    pod: str
    context: str = ""
    namespace: str = ""
    container: str = ""
    kubeconfig: str = ""

    def __str__(self) -> str:
        asked = {"context": self.context, "namespace": self.namespace, "container": self.container}
        query = urlencode({name: value for name, value in asked.items() if value})
        return f"kube-pod://{self.pod}?{query}" if query else f"kube-pod://{self.pod}"


Address: TypeAlias = UnixSocket | TcpAddress | SshAddress | ContainerAddress | PodAddress


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
    """One daemon and how to talk to it.

    Attributes:
        address: where it listens.
        tls: ``None`` speaks in the clear.
        source: where the address came from, for people: ``$DOCKER_HOST``, ``docker context 'x'``.
        headers: sent with every request.
        api_version: pinned by the user; ``None`` negotiates.
        buildkitd: known to be a buildkitd; otherwise it is an Engine, or ``probe`` finds out.
        via: the Engine that runs the container of a :class:`ContainerAddress`.
    """

    address: Address
    tls: TlsFiles | None = None
    source: str = ARGUMENT
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold credentials: not in a repr
    api_version: ApiVersion | None = None
    buildkitd: bool = False
    via: Endpoint | None = None

    @property
    def is_buildkitd(self) -> bool:
        """Whether it can be nothing but a buildkitd."""
        return self.buildkitd or isinstance(self.address, ContainerAddress | PodAddress)

    def __str__(self) -> str:
        return f"{self.address} (from {self.source})"


def parse_address(text: str, *, source: str = ARGUMENT) -> Address:
    """Read the address of an Engine or a buildkitd.

    Args:
        text: ``unix://PATH``, ``tcp://HOST[:PORT][/BASE]``, ``HOST:PORT``, ``http://...``, ``https://...`` or
            ``ssh://[USER@]HOST[:PORT][/SOCKET]``; for a buildkitd also ``docker-container://NAME[?context=NAME]``,
            ``podman-container://NAME``, ``nerdctl-container://NAME`` or
            ``kube-pod://POD[?context=NAME&namespace=NAME&container=NAME]``.
            ``unix://`` without a path is the default socket, ``tcp://`` without a host is localhost.
        source: where the text came from, for the errors.

    Raises:
        InputError: the text is no address; the error shows the right form.
        UnsupportedError: ``npipe://`` and ``fd://``; the error says what to do instead.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        return _parse_bare(scheme, source)
    scheme = scheme.lower()
    if scheme in _NEVER:
        msg = f"{scheme}:// addresses are not supported ({text!r} from {source}): {_NEVER[scheme]}"
        raise UnsupportedError(msg)
    if scheme == "unix":
        return _parse_unix(rest, text, source)
    if scheme in _TCP_SCHEMES:
        return _parse_tcp(_TCP_SCHEMES[scheme], rest, text, source)
    try:
        return _parse_program(scheme, rest)
    except ValueError as exc:
        raise _bad(text, source, str(exc)) from exc


def _parse_bare(text: str, source: str) -> TcpAddress:
    if text.startswith("/"):
        msg = f"{text!r} from {source} is no address of a daemon: a socket is written unix://{text}"
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


def _parse_program(scheme: str, rest: str) -> Address:
    """Read an address that a program leads to.

    Raises:
        ValueError: says what is wrong.
    """
    if not rest.isprintable():
        raise ValueError("it holds a control character")  # urlsplit would pass over some of them
    parts = urlsplit(f"//{rest}")
    if scheme == "ssh":
        return _parse_ssh(parts)
    asked = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True))
    if scheme in _CONTAINER_SCHEMES:
        program = _CONTAINER_SCHEMES[scheme]
        _check_query(asked, {"context"} if program == "docker" else set())
        return ContainerAddress(_name(parts, _CONTAINER_NAME, "container"), asked.get("context", ""), program)
    if scheme == "kube-pod":
        _check_query(asked, {"context", "namespace", "container"})
        for key in ("namespace", "container"):
            if asked.get(key) and not _KUBERNETES_NAME.fullmatch(asked[key]):
                raise ValueError(f"{asked[key]!r} names no {key}")
        return PodAddress(_name(parts, _KUBERNETES_NAME, "pod"), **asked)
    raise ValueError(f"the scheme {scheme!r} is unknown")


def _parse_ssh(parts: SplitResult) -> SshAddress:
    userinfo, _, hostport = parts.netloc.rpartition("@")
    if ":" in userinfo:
        raise ValueError("passwords do not belong in it: use a key and an ssh agent")
    if parts.query or parts.fragment:
        raise ValueError("a query or fragment does not belong in it")
    # Not parts.hostname: that is in lower case, and the names of an ssh configuration may not be.
    host = hostport[1:].partition("]")[0] if hostport.startswith("[") else hostport.partition(":")[0]
    user, path = unquote(userinfo), unquote(parts.path)
    if not host or parts.port == 0 or hostport.endswith(":"):
        raise ValueError("the host or port is missing")
    # ssh would take it for an option, and options can run programs.
    if host.startswith("-") or user.startswith("-"):
        raise ValueError("neither host nor user may begin with '-'")
    if not (host + user + path).isprintable() or " " in host + user:
        raise ValueError("the host, user or path holds a blank or control character")
    return SshAddress(host, user, parts.port, path if path.strip("/") else "")


def _name(parts: SplitResult, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.fullmatch(parts.netloc) or parts.path.strip("/") or parts.fragment:
        raise ValueError(f"{parts.netloc + parts.path!r} names no {what}")
    return parts.netloc


def _check_query(asked: dict[str, str], known: set[str]) -> None:
    if odd := sorted(asked.keys() - known):
        raise ValueError(f"{odd[0]!r} means nothing in it")


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
    return InputError(f"{text!r} from {source} is no address of a daemon ({why}): {_FORMS}")
