"""What it takes to fetch tokens of registries on this side: keys, and a client of token servers.

Apart from :mod:`~buildkit_session.services.auth`, which every build with credentials loads: this is loaded when a
registry wants a token.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from buildkit_session.docker_directory import docker_directory
from buildkit_session.services.token_authority import TokenAuthority
from buildkit_session.services.token_fetch import TokenClient
from buildkit_session.services.token_seeds import FreshSeeds, TokenSeeds
from buildkit_session.truth import TRUE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from buildkit_session.services.credentials import Credentials
    from buildkit_session.services.token_fetch import Web

__all__ = ["Tokens", "are_disabled"]


def are_disabled(environ: Mapping[str, str]) -> bool:
    """Whether the environment leaves it to daemons to fetch tokens, which takes passwords."""
    return environ.get("BUILDKIT_NO_CLIENT_TOKEN") in TRUE


@dataclass(frozen=True, slots=True)
class Tokens:
    """What it takes to fetch tokens on this side.

    Attributes:
        authority: has the keys.
        client: fetches the tokens.
        by_account: who gives other credentials has another key, so that no token of an account that was used before is
            used again. Docker's keys outlast a login as somebody else.
    """

    authority: TokenAuthority
    client: TokenClient
    by_account: bool = False

    @classmethod
    def of_environment(cls, environ: Mapping[str, str], web: Web, *, insecure: Collection[str] = ()) -> Self | None:
        """What docker would use: the seeds in its directory; ``None`` where ``BUILDKIT_NO_CLIENT_TOKEN`` is set.

        Args:
            environ: the environment.
            web: sends the requests.
            insecure: as for :class:`~buildkit_session.services.token_fetch.TokenClient`.
        """
        if are_disabled(environ):
            return None
        seeds = TokenSeeds(docker_directory(environ))
        return cls(TokenAuthority(seeds), TokenClient(web, insecure=insecure))

    @classmethod
    def of_one_client(cls, web: Web) -> Self:
        """What credentials need that one program has given to one client: its tokens are nobody else's."""
        return cls(TokenAuthority(FreshSeeds()), TokenClient(web), by_account=True)

    def public_key(self, host: str, salt: bytes, found: Credentials | None) -> bytes:
        """The key of who has these credentials at a registry; see :class:`TokenAuthority`."""
        return self.authority.public_key(host, salt, secret=_has_secret(found), account=self._account(found))

    def signed(self, host: str, salt: bytes, payload: bytes, found: Credentials | None) -> bytes:
        """What proves that one has that key; see :class:`TokenAuthority`."""
        return self.authority.signed(host, salt, payload, secret=_has_secret(found), account=self._account(found))

    def _account(self, found: Credentials | None) -> bytes:
        if found is None or not self.by_account:
            return b""
        fields = (found.username, found.password, found.identity_token, found.registry_token)
        return hashlib.sha256(json.dumps(fields).encode()).digest()


def _has_secret(found: Credentials | None) -> bool:
    # A ready token counts as well: it must not be shared with those who have nothing.
    return found is not None and found.any
