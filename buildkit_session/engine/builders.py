"""Builders that ``docker buildx create`` has made: which one is meant, and where its nodes are.

Only read here. That buildx also notes down which builder it fell back to changes nothing for the next look.

Source: docker/buildx:store/store.go, docker/buildx:store/storeutil/storeutil.go, docker/buildx:builder/builder.go,
docker/buildx:driver/{docker-container,remote,kubernetes}/factory.go.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, cast
from urllib.parse import parse_qs, urlsplit

from buildkit_session.docker_directory import docker_directory
from buildkit_session.docker_settings import Settings
from buildkit_session.engine.address import (
    BUILDX_PREFIX,
    ContainerAddress,
    Endpoint,
    PodAddress,
    TcpAddress,
    TlsFiles,
    parse_address,
)
from buildkit_session.engine.contexts import (
    current_context,
    find_context,
    find_endpoint,
    find_named,
    has_context,
)
from buildkit_session.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Builder", "Driver", "Node", "find_builder"]

Driver: TypeAlias = Literal["docker", "docker-container", "remote", "kubernetes"]

_DRIVERS: Final = ("docker", "docker-container", "remote", "kubernetes")

_NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9.\-_+]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Node:
    """One daemon of a builder.

    Attributes:
        name: of the node.
        endpoint: the daemon.
        platforms: set by the user, ``os/arch[/variant]``; the daemon itself may know more.
        flags: of the buildkitd, as it was or will be started by buildx.
        options: of the driver, such as ``image`` or ``default-load``.
    """

    name: str
    endpoint: Endpoint
    platforms: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


class Builder(NamedTuple):
    """A builder of buildx.

    Attributes:
        name: of the builder; that of the docker context for the one that each context has.
        driver: how its nodes are reached.
        nodes: at least one; the first is the one to use where nothing speaks for another.
        is_context: whether it is the builder of a docker context, made by nobody.
    """

    name: str
    driver: Driver
    nodes: tuple[Node, ...]
    is_context: bool = False


def find_builder(name: str | None = None, *, environ: Mapping[str, str] = os.environ) -> Builder:
    """Find the builder that ``docker buildx build`` would use. Reads small files; opens no connection, writes nothing.

    The first that is set wins: ``name``, ``$BUILDX_BUILDER``, the choice of ``docker buildx use``, the docker context.

    Args:
        name: of a builder or of the current docker context.
        environ: the environment, as for ``find_endpoint``; ``BUILDX_CONFIG`` names buildx's own directory.

    Raises:
        InputError: there is no such builder, or its settings cannot be used.
        UnsupportedError: it has a driver, or an address, that there is no way to.
    """
    store = _Store(environ)
    wanted = name or environ.get("BUILDX_BUILDER")
    return store.named(wanted) if wanted else store.current()


class _Store:
    """Buildx's state, for one environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        own = environ.get("BUILDX_CONFIG")
        self._root = Path(own) if own else docker_directory(environ) / "buildx"

    def named(self, name: str) -> Builder:
        if (group := self._group(name)) is not None:
            return self._builder(group)
        if not has_context(name, environ=self._environ):
            raise InputError(f"no builder {name!r} found in {self._root}: 'docker buildx ls' lists them")
        if name != current_context(environ=self._environ):
            raise InputError(
                f"builder {name!r} belongs to a docker context that is not the current one: set DOCKER_CONTEXT={name}, "
                f"or use 'docker context use {name}'"
            )
        return self._of_context(name)

    def current(self) -> Builder:
        group = self._chosen()
        return self._of_context(current_context(environ=self._environ)) if group is None else self._builder(group)

    def _chosen(self) -> Settings | None:
        """The builder that was chosen: for every context, for this one, or for this one by default."""
        key = self._key()
        choice = Settings.read(self._root / "current", missing_ok=True)
        if name := choice.text("Name"):
            if choice.flag("Global") and (group := self._group(name)) is not None:
                return group
            if choice.text("Key") == key:
                return self._group(name)
        with suppress(FileNotFoundError):
            return self._group((self._root / "defaults" / _short_hash(key)).read_text("utf-8", "replace"))
        return None

    def _key(self) -> str:
        """What choices are kept by: the name of the context; where that says nothing, the address."""
        name = current_context(environ=self._environ)
        if name != "default":
            return name
        given = self._environ.get("DOCKER_HOST", "").strip()
        return str(find_endpoint(environ=self._environ).address if given else parse_address("unix://"))

    def _group(self, name: str) -> Settings | None:
        if not _NAME.fullmatch(name):
            return None  # it could lead out of the directory
        file = self._root / "instances" / name.lower()
        return Settings.read(file) if file.is_file() else None

    def _of_context(self, name: str) -> Builder:
        endpoint = (
            find_endpoint(environ=self._environ) if name == "default" else find_context(name, environ=self._environ)
        )
        return Builder(name, "docker", (Node(name, endpoint),), is_context=True)

    def _builder(self, group: Settings) -> Builder:
        name, driver = group.text("Name"), group.text("Driver")
        if driver not in _DRIVERS:
            raise UnsupportedError(
                f"the builder {name!r} has a driver that is unknown here, {driver!r}: use another one"
            )
        nodes = tuple(self._node(name, driver, node) for node in group.tables("Nodes"))
        if not nodes:
            raise InputError(f"the builder {name!r} has no nodes ({group.source}): create it again")
        return Builder(name, cast("Driver", driver), nodes)

    def _node(self, builder: str, driver: str, node: Settings) -> Node:
        options = node.table("DriverOpts").texts()
        endpoint = self._endpoint(driver, node, options)
        return Node(
            name=node.text("Name"),
            endpoint=replace(endpoint, source=f"builder {builder!r} of buildx"),
            platforms=tuple(map(_platform, node.tables("Platforms"))),
            flags=tuple(node.words("Flags")),
            options=options,
        )

    def _endpoint(self, driver: str, node: Settings, options: Mapping[str, str]) -> Endpoint:
        text = node.text("Endpoint")
        if driver == "docker":
            return find_named(text, environ=self._environ)
        if driver == "docker-container":
            via = find_named(text, environ=self._environ)
            return Endpoint(ContainerAddress(BUILDX_PREFIX + node.text("Name")), buildkitd=True, via=via)
        if driver == "kubernetes":
            return Endpoint(_deployment(text, node.text("Name"), options), buildkitd=True)
        return self._remote(text, options)

    def _remote(self, text: str, options: Mapping[str, str]) -> Endpoint:
        address = parse_address(text, source="a remote builder of buildx")
        if isinstance(address, ContainerAddress) and address.program == "docker":
            return find_endpoint(text, environ=self._environ)
        tls = _tls(options)
        if isinstance(address, TcpAddress) and address.scheme != "tcp":
            raise InputError(f"{text!r} is no address of a buildkitd: use tcp://HOST:PORT")
        return Endpoint(address, tls if isinstance(address, TcpAddress) else None, buildkitd=True)


def _short_hash(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _platform(entry: Settings) -> str:
    parts = [entry.text("os"), entry.text("architecture"), entry.text("variant")]
    return "/".join(part for part in parts if part)


def _tls(options: Mapping[str, str]) -> TlsFiles | None:
    given = {key: options[key] for key in ("cacert", "cert", "key", "servername") if options.get(key)}
    if not given:
        return None
    if "cacert" not in given or ("cert" in given) != ("key" in given):
        raise InputError("a remote builder with TLS needs the driver options cacert, and cert and key together")
    files = {key: Path(given[key]) for key in ("cacert", "cert", "key") if key in given}
    if odd := [str(path) for path in files.values() if not path.is_absolute()]:
        raise InputError(f"the TLS files of a remote builder need absolute paths, unlike {odd[0]!r}")
    return TlsFiles(files["cacert"], files.get("cert"), files.get("key"), server_name=given.get("servername"))


def _deployment(text: str, node: str, options: Mapping[str, str]) -> PodAddress:
    # Which pod of several serves, buildx chooses by the directory of the context; kubectl takes the first that runs.
    kubeconfig = parse_qs(urlsplit(text).query).get("kubeconfig", [""])[0]
    name = node.replace("_", "-")
    return PodAddress(f"deployment/{name}", namespace=options.get("namespace", ""), kubeconfig=kubeconfig)
