"""The calls of ``moby.filesync.v1.Auth``: what a daemon asks, put to :class:`~buildkit_session.services.auth.Auth`.

Source: moby/buildkit:session/auth/auth.proto.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from buildkit_session.grpc.router import Route, messages, unary
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
from buildkit_session.services.token_fetch import CLIENT_ID, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.services.auth import Auth

__all__ = ["AuthCalls"]

log = logging.getLogger("buildkit_session.services")


class AuthCalls:
    """Answers with what an :class:`~buildkit_session.services.auth.Auth` knows."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

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
        found = await self._auth.find(request.host)
        if found is None:
            return CredentialsResponse()
        log.debug("> credentials for %r", request.host)
        username, secret = found.pair
        return CredentialsResponse(username=username, secret=secret)

    async def _fetch_token(self, request: FetchTokenRequest) -> FetchTokenResponse:
        tokens = self._auth.tokens(request.host)
        wanted = TokenRequest(
            request.host, request.realm, request.service, tuple(request.scopes), request.client_id or CLIENT_ID
        )
        token = await tokens.client.fetch(wanted, await self._auth.find(request.host))
        log.debug("> token for %r, %d s", request.host, token.life)
        # No time of issue: the daemon would compare it with a clock of its own.
        return FetchTokenResponse(token=token.text, expires_in=token.life)

    async def _get_token_authority(self, request: GetTokenAuthorityRequest) -> GetTokenAuthorityResponse:
        authority = self._auth.tokens(request.host).authority
        secret = await self._has_secret(request.host)
        key = await to_thread.run_sync(partial(authority.public_key, request.host, request.salt, secret=secret))
        return GetTokenAuthorityResponse(public_key=key)

    async def _verify_token_authority(self, request: VerifyTokenAuthorityRequest) -> VerifyTokenAuthorityResponse:
        authority = self._auth.tokens(request.host).authority
        secret = await self._has_secret(request.host)
        sign = partial(authority.signed, request.host, request.salt, request.payload, secret=secret)
        return VerifyTokenAuthorityResponse(signed=await to_thread.run_sync(sign))

    async def _has_secret(self, host: str) -> bool:
        # A ready token counts as well: it must not be shared with those who have nothing.
        found = await self._auth.find(host)
        return found is not None and found.any
