"""Credentials of registries, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HUB", "CredentialSource", "Credentials", "StaticCredentials", "registry_host"]

HUB: Final = "registry-1.docker.io"
"""What the daemon asks for where people say Docker Hub."""

_HUB_NAMES: Final = frozenset(("docker.io", "index.docker.io", HUB))


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What proves to a registry who asks: a password, or a token instead of it.

    Attributes:
        username: goes with ``password``.
        password: or what takes its place, such as an access token that a registry takes for a password.
        identity_token: an OAuth refresh token; wins over the password.
        registry_token: a ready bearer token; the daemon gets it as it is, where it may fetch tokens through this side.
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
    def any(self) -> bool:
        """Whether there is a secret at all."""
        return bool(self.pair[1] or self.registry_token)

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


def registry_host(name: str) -> str:
    """The host that the daemon asks for, of a registry as people name it.

    ``https://reg.example:5000/v2/`` becomes ``reg.example:5000``, each name of Docker Hub :data:`HUB`.
    """
    host = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if host in _HUB_NAMES else host
