"""Which Engine is meant: arguments, environment, docker's config.json and its store of contexts.

The order is docker's own. The only thing added is that rootless sockets are tried when nothing was configured
and the default socket does not exist.

Source: docker/cli:cli/command/cli.go (resolveContextName), docker/cli:cli/context/store,
docker/cli:cli/context/docker/load.go, docker/cli:cli/command/cli_options.go (custom headers).
"""

from __future__ import annotations

import csv
import os
import re
import stat
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.docker_directory import docker_directory
from buildkit_session.docker_settings import Settings
from buildkit_session.engine.address import (
    ARGUMENT,
    DEFAULT_SOCKET,
    Address,
    ContainerAddress,
    Endpoint,
    PodAddress,
    TcpAddress,
    TlsFiles,
    UnixSocket,
    parse_address,
)
from buildkit_session.engine.api_version import ApiVersion
from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["current_context", "find_context", "find_endpoint", "find_named", "has_context"]

# The port that Engines serve TLS on by convention; used only when TLS is on and no host is named.
_TLS_LOCALHOST = TcpAddress("localhost", 2376)

_PEM_NAMES = ("ca", "cert", "key")

# RFC 9110, section 5.6.2 (token) and 5.5: what else stands in a header could smuggle another one.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE_BREAKS = re.compile(r"[\r\n\0]")


def find_endpoint(
    address: str | None = None,
    *,
    tls: TlsFiles | None = None,
    source: str = ARGUMENT,
    environ: Mapping[str, str] = os.environ,
) -> Endpoint:
    """Find the daemon to use. Reads a few small files; opens no connection.

    The first that is set wins: ``address``, ``$DOCKER_HOST``, ``$DOCKER_CONTEXT``, ``currentContext`` of
    config.json, the default socket, a rootless socket.

    Args:
        address: as in ``parse_address``, or ``None``.
        tls: TLS settings for ``address``, instead of those of the environment.
        source: where ``address`` comes from, for people.
        environ: the environment; also names the home directory (``HOME``) and docker's directory (``DOCKER_CONFIG``).

    Raises:
        InputError: an address, a setting or a file cannot be used, or a named context does not exist.
        UnsupportedError: the address needs a transport that there is none for, such as ``npipe://``.
    """
    finder = _Finder(environ, source)
    return finder.find(address) if tls is None else finder.with_tls(address, tls)


def find_context(name: str, *, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """Find the Engine of a docker context by its name; errors as for :func:`find_endpoint`."""
    return _Finder(environ).context(name)


def find_named(text: str, *, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """Find the Engine that a builder of buildx runs at.

    Args:
        text: the name of a docker context, or an address; TLS settings of the environment do not count for it.
        environ: as for :func:`find_endpoint`, and so are the errors.
    """
    finder = _Finder(environ)
    return finder.context(text) if finder.has_context(text) else finder.host(text)


def current_context(*, environ: Mapping[str, str] = os.environ) -> str:
    """Return the name of the docker context in use; ``default`` where an address was given instead."""
    return _Finder(environ).current()


def has_context(name: str, *, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether docker knows a context of that name."""
    return _Finder(environ).has_context(name)


class _Finder:
    """Answers for one environment."""

    def __init__(self, environ: Mapping[str, str], source: str = ARGUMENT) -> None:
        self._environ = environ
        self._source = source  # of an address that is given
        self._home = Path(environ.get("HOME") or Path.home())
        self._directory = docker_directory(environ)
        self._config = Settings.read(self._directory / "config.json", missing_ok=True)

    def find(self, address: str | None) -> Endpoint:
        if address:
            return self._argument(address)
        return self._configured()

    def with_tls(self, address: str | None, tls: TlsFiles) -> Endpoint:
        found = self.find(address)
        if not isinstance(found.address, TcpAddress) or found.address.scheme == "http":
            raise InputError(f"TLS settings were given, but {found} is reached without TLS: use tcp://HOST:PORT")
        return replace(found, tls=tls)

    def context(self, name: str) -> Endpoint:
        if name == "default" and (host := self._environ.get("DOCKER_HOST", "").strip()):
            return self._given(host, "$DOCKER_HOST")
        return self._context(name, f"docker context {name!r}")

    def host(self, text: str) -> Endpoint:
        return self._endpoint(_engine_address(text, "a builder of buildx"), None, "a builder of buildx")

    def has_context(self, name: str) -> bool:
        return name == "default" or (self._context_directory(name) / "meta.json").is_file()

    def current(self) -> str:
        if self._environ.get("DOCKER_HOST", "").strip():
            return "default"
        return self._environ.get("DOCKER_CONTEXT") or self._config.text("currentContext") or "default"

    def _configured(self) -> Endpoint:
        if host := self._environ.get("DOCKER_HOST", "").strip():
            return self._given(host, "$DOCKER_HOST")
        if name := self._environ.get("DOCKER_CONTEXT"):
            return self._context(name, f"docker context {name!r} ($DOCKER_CONTEXT)")
        if name := self._config.text("currentContext"):
            return self._context(name, f"docker context {name!r}")
        return self._default()

    def _argument(self, text: str) -> Endpoint:
        address = parse_address(text, source=self._source)
        if not isinstance(address, ContainerAddress) or address.program != "docker":
            return self._endpoint(address, self._tls_for(address), self._source)
        via = self.context(address.context) if address.context else self._configured()
        return Endpoint(address, source=self._source, buildkitd=True, via=via)

    def _given(self, text: str, source: str) -> Endpoint:
        address = _engine_address(text, source)
        return self._endpoint(address, self._tls_for(address), source)

    def _default(self) -> Endpoint:
        if (tls := self._tls_from_environment()) is not None:
            return self._endpoint(_TLS_LOCALHOST, tls, "the default for TLS")
        if not _is_socket(Path(DEFAULT_SOCKET)):
            for candidate in self._rootless_sockets():
                if _is_socket(candidate):
                    return self._endpoint(
                        UnixSocket(str(candidate)), None, "the socket of a rootless or desktop Engine"
                    )
        return self._endpoint(UnixSocket(DEFAULT_SOCKET), None, "the default socket")

    def _rootless_sockets(self) -> list[Path]:
        # The docker CLI never looks here: it relies on the context that a rootless installation selects.
        runtime = self._environ.get("XDG_RUNTIME_DIR")
        at_home = [self._home / ".docker/run/docker.sock", self._home / ".docker/desktop/docker.sock"]
        return [Path(runtime, "docker.sock"), *at_home] if runtime else at_home

    def _context(self, name: str, source: str) -> Endpoint:
        if name == "default":
            return self._default()
        folder = self._context_directory(name)
        meta = folder / "meta.json"
        if not meta.is_file():
            msg = f"there is no {source} in {self._directory}: see 'docker context ls', or set DOCKER_HOST"
            raise InputError(msg)
        docker = Settings.read(meta).table("Endpoints").table("docker")
        address = _engine_address(docker.text("Host") or "unix://", source)
        material = self._directory / "contexts/tls" / folder.name / "docker"
        return self._endpoint(
            address, _context_tls(address, material, skip_verify=docker.flag("SkipTLSVerify")), source
        )

    def _context_directory(self, name: str) -> Path:
        # It is named by a hash, so a name can hold anything and leads nowhere else.
        digest = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        return self._directory / "contexts/meta" / digest

    def _tls_for(self, address: Address) -> TlsFiles | None:
        if not isinstance(address, TcpAddress) or address.scheme == "http":
            return None
        tls = self._tls_from_environment()
        return TlsFiles() if tls is None and address.scheme == "https" else tls

    def _tls_from_environment(self) -> TlsFiles | None:
        verify = bool(self._environ.get("DOCKER_TLS_VERIFY"))  # any text counts, "0" too
        if not verify and not self._environ.get("DOCKER_TLS"):
            return None
        folder = Path(self._environ.get("DOCKER_CERT_PATH") or self._directory)
        if not (folder / "ca.pem").is_file():
            msg = (
                f"TLS is on (DOCKER_TLS_VERIFY or DOCKER_TLS) but {folder / 'ca.pem'} is missing: set DOCKER_CERT_PATH"
            )
            raise InputError(msg)
        return _tls_files(folder, verify=verify)

    def _endpoint(self, address: Address, tls: TlsFiles | None, source: str) -> Endpoint:
        return Endpoint(address, tls, source, self._headers(), self._api_version())

    def _headers(self) -> dict[str, str]:
        # The variable replaces what the file says, all of it; User-Agent stays ours (docker/cli does both).
        record = self._environ.get("DOCKER_CUSTOM_HEADERS")
        headers = _parse_headers(record) if record else self._config.table("HttpHeaders").texts()
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or _LINE_BREAKS.search(value):
                msg = f"the custom HTTP header {name!r} (config.json or DOCKER_CUSTOM_HEADERS) is malformed"
                raise InputError(msg)
        return {name: value for name, value in headers.items() if name.lower() != "user-agent"}

    def _api_version(self) -> ApiVersion | None:
        text = self._environ.get("DOCKER_API_VERSION")
        if not text:
            return None
        try:
            return ApiVersion.parse(text)
        except ValueError as exc:
            msg = f"DOCKER_API_VERSION: {exc}"
            raise InputError(msg) from exc


def _engine_address(text: str, source: str) -> Address:
    """Read an address where docker wants that of an Engine."""
    address = parse_address(text, source=source)
    if isinstance(address, ContainerAddress | PodAddress):
        raise InputError(f"{address} from {source} names a buildkitd, not an Engine: pass it as the address instead")
    return address


def _context_tls(address: Address, material: Path, *, skip_verify: bool) -> TlsFiles | None:
    if not isinstance(address, TcpAddress) or address.scheme == "http":
        return None
    stored = any((material / f"{name}.pem").is_file() for name in _PEM_NAMES)
    if not stored and not skip_verify and address.scheme != "https":
        return None
    return _tls_files(material, verify=not skip_verify)


def _tls_files(folder: Path, *, verify: bool) -> TlsFiles:
    ca, cert, key = (path if path.is_file() else None for path in (folder / f"{name}.pem" for name in _PEM_NAMES))
    if (cert is None) != (key is None):
        msg = f"{folder} holds only one of cert.pem and key.pem: TLS needs both or neither"
        raise InputError(msg)
    return TlsFiles(ca, cert, key, verify)


def _parse_headers(record: str) -> dict[str, str]:
    msg = "DOCKER_CUSTOM_HEADERS must be one CSV record of NAME=VALUE fields"
    try:
        fields = next(csv.reader([record], skipinitialspace=True))
    except csv.Error as exc:
        raise InputError(msg) from exc
    pairs = [field.partition("=") for field in fields]
    if any(not name.strip() or not separator for name, separator, _ in pairs):
        raise InputError(msg)
    return {name.strip(): value for name, _, value in pairs}


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
