"""``moby.filesync.v1.Auth``: the credentials that the daemon needs at registries.

The daemon asks when a registry has refused it, for the host of that very request: ``registry-1.docker.io`` for Docker
Hub, with the port where the address has one. An empty answer makes it go on without credentials; an error ends the
build, even where the image is public. So a host that nobody knows gets an empty answer.

Only ``Credentials`` is served. Without ``GetTokenAuthority`` the daemon asks for these where a registry wants a token,
and fetches the token itself.

Source: moby/buildkit:session/auth/auth.go, auth.proto; util/resolver/authorizer.go.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from buildkit_session.errors import InputError, SessionError
from buildkit_session.grpc.router import Route, messages, unary
from buildkit_session.messages.moby.filesync.v1 import CredentialsRequest, CredentialsResponse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["HUB", "Auth", "CredentialSource", "Credentials", "FirstOf", "StaticCredentials", "registry_host"]

HUB: Final = "registry-1.docker.io"
"""What the daemon asks for where people say Docker Hub."""

_HUB_NAMES: Final = frozenset(("docker.io", "index.docker.io", HUB))

log = logging.getLogger("buildkit_session.services")


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What proves to a registry who asks: a password, or a token instead of it.

    Attributes:
        username: goes with ``password``.
        password: or what takes its place, such as an access token that a registry takes for a password.
        identity_token: an OAuth refresh token; wins over the password.
        registry_token: a ready bearer token. Of no use for what is served today.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        # Some registries take a token for the user's name.
        kinds = [name for name in ("password", "identity_token", "registry_token") if getattr(self, name)]
        return f"<Credentials {' '.join(kinds) or 'none'}>"

    @property
    def pair(self) -> tuple[str, str]:
        """Username and secret as the daemon wants them: without a username the secret is an identity token."""
        return ("", self.identity_token) if self.identity_token else (self.username, self.password)


class CredentialSource(Protocol):
    """Where credentials come from."""

    async def find(self, host: str, /) -> Credentials | None:
        """Return the credentials for ``host``, ``None`` if there are none.

        Args:
            host: as in the URL of the registry, with the port if it names one. Whoever controls the daemon can ask for
                any. To answer for another, a parent domain or another port would give a password away.

        Raises:
            SessionError: the credentials cannot be had. This ends the build, even where it could do without.
        """
        ...


class Auth:
    """Answers for the hosts that a source knows.

    Args:
        source: is asked each time.
        hosts: the only ones that are answered for, as :func:`registry_host` takes them; ``None`` for all.
    """

    def __init__(self, source: CredentialSource, *, hosts: Collection[str] | None = None) -> None:
        self._source = source
        self._hosts = None if hosts is None else frozenset(map(registry_host, hosts))

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        codecs = messages(CredentialsRequest, CredentialsResponse)
        return (Route("/moby.filesync.v1.Auth/Credentials", unary(self._credentials), codecs),)

    async def _credentials(self, request: CredentialsRequest) -> CredentialsResponse:
        found = await self._find(request.host)
        if found is None:
            return CredentialsResponse()
        log.debug("> credentials for %r", request.host)
        username, secret = found.pair
        return CredentialsResponse(username=username, secret=secret)

    async def _find(self, host: str) -> Credentials | None:
        if self._hosts is not None and host not in self._hosts:
            return None
        try:
            return await self._source.find(host)
        except SessionError:
            raise
        except Exception as error:  # a caller's source may raise anything
            raise InputError(f"cannot find the credentials for {host}: {type(error).__name__}") from error


class StaticCredentials:
    """Credentials that are known beforehand.

    Args:
        credentials: by registry, as :func:`registry_host` takes it.
    """

    def __init__(self, credentials: Mapping[str, Credentials]) -> None:
        self._credentials = {registry_host(name): found for name, found in credentials.items()}

    async def find(self, host: str, /) -> Credentials | None:
        """See :class:`CredentialSource`."""
        return self._credentials.get(host)


class FirstOf:
    """Asks several sources in turn."""

    def __init__(self, *sources: CredentialSource) -> None:
        self._sources = sources

    async def find(self, host: str, /) -> Credentials | None:
        """See :class:`CredentialSource`. A source that fails ends the search."""
        for source in self._sources:
            if (found := await source.find(host)) is not None:
                return found
        return None


def registry_host(name: str) -> str:
    """The host that the daemon asks for, of a registry as people name it.

    ``https://reg.example:5000/v2/`` becomes ``reg.example:5000``, each name of Docker Hub :data:`HUB`.
    """
    host = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if host in _HUB_NAMES else host
