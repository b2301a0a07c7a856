"""The calls of ``moby.filesync.v1.Auth``: what a daemon asks, put to :class:`~buildkit_session.services.auth.Auth`.

Source: moby/buildkit:session/auth/auth.proto.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
from anyio import to_thread

from buildkit_session.errors import RpcError
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
from buildkit_session.services.token_fetch import CLIENT_ID, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from buildkit_session.services.auth import Auth

__all__ = ["AuthCalls"]

PATIENCE: Final = 55.0
"""Seconds for all that one call takes: to find credentials and to fetch a token may each take nearly as long as newer
daemons wait, which is 60."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

log = logging.getLogger("buildkit_session.services")


class AuthCalls:
    """Answers with what an :class:`~buildkit_session.services.auth.Auth` knows."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._threads = anyio.CapacityLimiter(1)  # keys are computed in Python: more would only slow down the loop

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        service = "/moby.filesync.v1.Auth"
        authorities = messages(GetTokenAuthorityRequest, GetTokenAuthorityResponse)
        proofs = messages(VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse)
        secrets = messages(CredentialsRequest, CredentialsResponse)
        tokens = messages(FetchTokenRequest, FetchTokenResponse)
        return (
            Route(f"{service}/Credentials", unary(_bounded(self._credentials)), secrets),
            Route(f"{service}/FetchToken", unary(_bounded(self._fetch_token)), tokens),
            Route(f"{service}/GetTokenAuthority", unary(_bounded(self._get_token_authority)), authorities),
            Route(f"{service}/VerifyTokenAuthority", unary(_bounded(self._verify_token_authority)), proofs),
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
        tokens = self._auth.tokens(request.host)
        found = await self._auth.find(request.host)
        make_key = partial(tokens.public_key, request.host, request.salt, found)
        return GetTokenAuthorityResponse(public_key=await to_thread.run_sync(make_key, limiter=self._threads))

    async def _verify_token_authority(self, request: VerifyTokenAuthorityRequest) -> VerifyTokenAuthorityResponse:
        tokens = self._auth.tokens(request.host)
        found = await self._auth.find(request.host)
        sign = partial(tokens.signed, request.host, request.salt, request.payload, found)
        return VerifyTokenAuthorityResponse(signed=await to_thread.run_sync(sign, limiter=self._threads))


def _bounded(handle: Callable[[_Request], Awaitable[_Response]]) -> Callable[[_Request], Awaitable[_Response]]:
    async def bounded(request: _Request) -> _Response:
        with anyio.move_on_after(PATIENCE):
            return await handle(request)
        raise RpcError(Status.DEADLINE_EXCEEDED, f"what a registry wants was not there within {PATIENCE:g} s")

    return bounded
