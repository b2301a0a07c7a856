"""``moby.filesync.v1.Auth``: the credentials that the daemon needs at registries.

The daemon asks when a registry has refused it, for the host of that very request: ``registry-1.docker.io`` for Docker
Hub, with the port where the address has one. An empty answer makes it go on without credentials; an error ends the
build, even where the image is public. So a host that nobody knows gets an empty answer.

Where a registry wants a token, a daemon first asks for a key that it may keep the token under, then for the token; that
way it never sees a password. Where this is not to be, ``GetTokenAuthority`` answers UNAVAILABLE: the daemon then asks
for the credentials, and fetches the token itself.

Source: moby/buildkit:session/auth/auth.go, auth.proto; util/resolver/authorizer.go.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from buildkit_session.errors import InputError, RpcError, SessionError
from buildkit_session.grpc.router import Route, messages, unary
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.filesync.v1 import (
    CredentialsRequest,
    CredentialsResponse,
    FetchTokenRequest,
    FetchTokenResponse,
    GetTokenAuthorityRequest,
    GetTokenAuthorityResponse,
    VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
)
from buildkit_session.services.credentials import Credentials, CredentialSource, registry_host

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from buildkit_session.services.tokens import Tokens

__all__ = ["Auth"]

log = logging.getLogger("buildkit_session.services")


class Auth:
    """Answers for the hosts that a source knows.

    Args:
        source: is asked each time.
        tokens: fetches tokens on this side, or makes what does so when a daemon first asks: few builds need one.
            Without it the daemon is given the credentials to do so.
        hosts: the only ones that are answered for, as :func:`registry_host` takes them; ``None`` for all.
    """

    def __init__(
        self,
        source: CredentialSource,
        *,
        tokens: Tokens | Callable[[], Tokens | None] | None = None,
        hosts: Collection[str] | None = None,
    ) -> None:
        self._source = source
        self._fetching = tokens
        self._hosts = None if hosts is None else frozenset(map(registry_host, hosts))

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        service = "/moby.filesync.v1.Auth"
        authorities = messages(GetTokenAuthorityRequest, GetTokenAuthorityResponse)
        proofs = messages(VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse)
        return (
            Route(
                f"{service}/Credentials", unary(self._credentials), messages(CredentialsRequest, CredentialsResponse)
            ),
            Route(f"{service}/FetchToken", unary(self._fetch_token), messages(FetchTokenRequest, FetchTokenResponse)),
            Route(f"{service}/GetTokenAuthority", unary(self._get_token_authority), authorities),
            Route(f"{service}/VerifyTokenAuthority", unary(self._verify_token_authority), proofs),
        )

    async def _credentials(self, request: CredentialsRequest) -> CredentialsResponse:
        found = await self.find(request.host)
        if found is None:
            return CredentialsResponse()
        log.debug("> credentials for %r", request.host)
        username, secret = found.pair
        return CredentialsResponse(username=username, secret=secret)

    async def _fetch_token(self, request: FetchTokenRequest) -> FetchTokenResponse:
        from buildkit_session.services.token_fetch import CLIENT_ID, TokenRequest  # noqa: PLC0415 - few builds ask

        tokens = self._tokens(request.host)
        wanted = TokenRequest(
            request.host, request.realm, request.service, tuple(request.scopes), request.client_id or CLIENT_ID
        )
        token = await tokens.client.fetch(wanted, await self.find(request.host))
        log.debug("> token for %r, %d s", request.host, token.life)
        # No time of issue: the daemon would compare it with a clock of its own.
        return FetchTokenResponse(token=token.text, expires_in=token.life)

    async def _get_token_authority(self, request: GetTokenAuthorityRequest) -> GetTokenAuthorityResponse:
        authority = self._tokens(request.host).authority
        secret = await self._has_secret(request.host)
        key = await to_thread.run_sync(partial(authority.public_key, request.host, request.salt, secret=secret))
        return GetTokenAuthorityResponse(public_key=key)

    async def _verify_token_authority(self, request: VerifyTokenAuthorityRequest) -> VerifyTokenAuthorityResponse:
        authority = self._tokens(request.host).authority
        secret = await self._has_secret(request.host)
        sign = partial(authority.signed, request.host, request.salt, request.payload, secret=secret)
        return VerifyTokenAuthorityResponse(signed=await to_thread.run_sync(sign))

    def _tokens(self, host: str) -> Tokens:
        if callable(self._fetching):
            self._fetching = self._fetching()
        if self._fetching is None or not self._is_served(host):
            raise RpcError(Status.UNAVAILABLE, "client side tokens disabled")
        return self._fetching

    async def _has_secret(self, host: str) -> bool:
        # A ready token counts as well: it must not be shared with those who have nothing.
        found = await self.find(host)
        return found is not None and found.any

    def _is_served(self, host: str) -> bool:
        return self._hosts is None or host in self._hosts

    async def find(self, host: str, /) -> Credentials | None:
        """See :class:`CredentialSource`; nothing for hosts that are not answered for.

        Raises:
            SessionError: the source failed.
        """
        if not self._is_served(host):
            return None
        try:
            return await self._source.find(host)
        except SessionError:
            raise
        except Exception as error:  # a caller's source may raise anything
            raise InputError(f"cannot find the credentials for {host}: {type(error).__name__}") from error
