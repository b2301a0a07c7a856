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

from typing import TYPE_CHECKING, Final

import anyio

from buildkit_session.errors import CallbackError, RpcError, SessionError
from buildkit_session.grpc.router import of_request
from buildkit_session.grpc.status import Status
from buildkit_session.services.credentials import Credentials, CredentialSource, is_host, registry_host
from buildkit_session.services.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from buildkit_session.grpc.router import Route
    from buildkit_session.services import Service
    from buildkit_session.services.tokens import Tokens

__all__ = ["Auth"]

METHODS: Final = tuple(
    f"/moby.filesync.v1.Auth/{name}"
    for name in ("Credentials", "FetchToken", "GetTokenAuthority", "VerifyTokenAuthority")
)
"""What a daemon may call."""

PATIENCE: Final = 50.0
"""Seconds that a source may take: newer daemons wait for 60, older ones for ever."""


class Auth:
    """Answers for the hosts that a source knows.

    Args:
        source: is asked each time, for hosts that can be in a URL; it gets the host as it is.
        tokens: fetches tokens on this side, or makes what does so when a daemon first asks: few builds need one.
            Without it the daemon is given the credentials to do so.
        hosts: the only ones that are answered for, as :func:`registry_host` takes them; ``None`` for all.
        patience: seconds that the source may take.
    """

    def __init__(
        self,
        source: CredentialSource,
        *,
        tokens: Tokens | Callable[[], Tokens | None] | None = None,
        hosts: Collection[str] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._source = source
        self._fetching = tokens
        self._hosts = None if hosts is None else frozenset(map(registry_host, hosts))
        self._patience = patience

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        return Deferred(METHODS, self._calls, subject=of_request(lambda request: request.host)).routes()

    def _calls(self) -> Service:
        from buildkit_session.services.auth_calls import AuthCalls  # noqa: PLC0415 - loaded when a daemon first calls

        return AuthCalls(self)

    def tokens(self, host: str) -> Tokens:
        """What fetches tokens for a host.

        Raises:
            RpcError: nothing does, which tells the daemon to fetch them itself.
        """
        if callable(self._fetching):
            self._fetching = self._fetching()
        if self._fetching is None or not self._is_served(host):
            raise RpcError(Status.UNAVAILABLE, "client side tokens disabled")
        return self._fetching

    def _is_served(self, host: str) -> bool:
        return self._hosts is None or host in self._hosts

    async def find(self, host: str, /) -> Credentials | None:
        """See :class:`CredentialSource`; nothing for hosts that are not answered for.

        Raises:
            SessionError: the source failed, or took too long.
        """
        if not self._is_served(host) or not is_host(host):
            return None
        try:
            with anyio.move_on_after(self._patience):
                return await self._source.find(host)
            failed = f"did not answer within {self._patience:g} s"
        except SessionError:
            raise
        except Exception as error:  # noqa: BLE001 - a caller's source may raise anything
            failed = f"raised {type(error).__name__}"
        # Here, without a cause: the text of that may hold a password.
        raise CallbackError(f"the source of credentials, asked for {host}, {failed}")
