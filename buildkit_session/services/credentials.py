"""Credentials of registries, and where they come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from buildkit_session.errors import InputError
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["HUB", "CredentialSource", "Credentials", "HostCredentials", "StaticCredentials", "is_host", "registry_host"]

HUB: Final = "registry-1.docker.io"
"""What the daemon asks for where people say Docker Hub."""

_HUB_NAMES: Final = frozenset(("docker.io", "index.docker.io", HUB))

# What a URL can have there: a name or an address of at most 253 characters, and a port.
_HOST: Final = re.compile(r"[A-Za-z0-9._:%\[\]-]{1,260}", re.ASCII)

_TEXTS: Final = ("username", "password", "identity_token", "registry_token")


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What proves to a registry who asks: a password, or a token instead of it.

    Attributes:
        username: goes with ``password``.
        password: or what takes its place, such as an access token that a registry takes for a password.
        identity_token: an OAuth refresh token; wins over the password.
        registry_token: a ready bearer token; the daemon gets it as it is, where it may fetch tokens through this side.
        expires_at: when they end, with a time zone. A callback is asked again shortly before that; elsewhere it has no
            meaning.

    Raises:
        InputError: one of them is of another type, or cannot be sent. No value is shown.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        for name in _TEXTS:
            if not isinstance(value := getattr(self, name), str):
                raise InputError(f"the {name} of credentials must be a text, not {a_type(value)}")
            if not value.isascii() and not _is_unicode(value):
                raise InputError(f"the {name} of credentials has characters that cannot be sent")
        if self.expires_at is not None:
            _check_moment(self.expires_at)

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
    """Where credentials come from.

    It is asked several times for one image, and waited for at most 50 seconds. Nothing it has answered is kept.
    """

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


class HostCredentials:
    """A source for each registry; the others are not asked.

    Args:
        sources: by registry, as :func:`registry_host` takes it.
    """

    def __init__(self, sources: Mapping[str, CredentialSource]) -> None:
        self._sources = {registry_host(name): source for name, source in sources.items()}

    async def find(self, host: str, /) -> Credentials | None:
        """See :class:`CredentialSource`."""
        source = self._sources.get(host)
        return None if source is None else await source.find(host)


def registry_host(name: str) -> str:
    """The host that the daemon asks for, of a registry as people name it.

    ``https://reg.example:5000/v2/`` becomes ``reg.example:5000``, each name of Docker Hub :data:`HUB`.
    """
    host = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if host in _HUB_NAMES else host


def is_host(text: str) -> bool:
    """Whether a text can be the host of a URL, with or without a port: nothing else has credentials."""
    return _HOST.fullmatch(text) is not None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_moment(moment: object) -> None:
    from datetime import datetime  # noqa: PLC0415 - few credentials say when they end

    if not isinstance(moment, datetime):
        raise InputError(f"expires_at of credentials must be a datetime, not {a_type(moment)}")
    if moment.utcoffset() is None:
        raise InputError("expires_at of credentials needs a time zone: use datetime.now(UTC) + timedelta(...)")
