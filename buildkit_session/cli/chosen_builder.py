"""Which daemon a command goes to, as ``docker buildx`` chooses it.

``--host`` alone means that daemon. Otherwise a builder is meant: that of ``--builder``, ``BUILDX_BUILDER`` or
``docker buildx use``, or the one that every docker context has.

Source: docker/buildx:builder/builder.go (New), store/storeutil/storeutil.go (GetCurrentInstance).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from buildkit_session.client import Client
from buildkit_session.engine.builders import find_builder
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.engine.address import Endpoint
    from buildkit_session.engine.builders import Builder
    from buildkit_session.registry_auth import CredentialsLike

__all__ = ["ChosenBuilder", "choose_builder"]


class ChosenBuilder(NamedTuple):
    """A daemon, or the builder that it belongs to; made by :func:`choose_builder`."""

    address: str | None
    builder: Builder | None

    @property
    def name(self) -> str:
        """What people call the builder."""
        return self.builder.name if self.builder is not None else "default"

    @property
    def node(self) -> str:
        """The name of the daemon among those of its builder."""
        return self.builder.nodes[0].name if self.builder is not None else "default"

    @property
    def driver(self) -> str:
        """How the builder's daemons are reached, in buildx's words."""
        return self.builder.driver if self.builder is not None else "docker"

    def connect(self, *, credentials: CredentialsLike | None = None) -> Client:
        """Make the client; see :func:`~buildkit_session.client.connect`."""
        return Client(Daemon(self.endpoint()), credentials=credentials)

    def endpoint(self) -> Endpoint:
        """Find the daemon; errors as for :func:`~buildkit_session.engine.contexts.find_endpoint`."""
        if self.builder is not None:
            return self.builder.nodes[0].endpoint
        return find_endpoint(self.address, source="--host")


def choose_builder(host: str | None, builder: str | None, *, environ: Mapping[str, str] = os.environ) -> ChosenBuilder:
    """Choose the daemon. Reads small files; opens no connection.

    Args:
        host: of ``--host``.
        builder: of ``--builder``.
        environ: the environment.

    Raises:
        InputError: there is no such builder or docker context, or its settings cannot be used.
        UnsupportedError: there is no way to it.
    """
    if host and not builder:
        return ChosenBuilder(host, None)
    return ChosenBuilder(None, find_builder(builder, environ={**environ, "DOCKER_HOST": host} if host else environ))
