"""Services that are loaded when the daemon first calls them.

A session advertises what it serves before it knows what will be asked, and most builds ask for little of it: of no
registry, and within seconds not for the client's health.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from buildkit_session.grpc.router import Route, Router

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.metadata import Metadata
    from buildkit_session.grpc.router import Codecs, Subject
    from buildkit_session.services import Service

__all__ = ["Deferred"]


class Deferred:
    """Stands in for a service until it is called.

    Args:
        methods: the paths of all its methods.
        load: imports and makes it; called once. None of its routes may end itself.
        subject: what its calls ask for.
    """

    def __init__(self, methods: Iterable[str], load: Callable[[], Service], *, subject: Subject | None = None) -> None:
        self._methods = tuple(methods)
        self._load = load
        self._subject = subject
        self._router: Router | None = None

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        return tuple(
            Route(path, partial(self._handle, path), partial(self._select, path), subject=self._subject)
            for path in self._methods
        )

    def _select(self, path: str, metadata: Metadata) -> Codecs:
        return self._route(path).select(metadata)

    async def _handle(self, path: str, call: IncomingCall[Any, Any]) -> None:
        await self._route(path).handler(call)

    def _route(self, path: str) -> Route:
        if self._router is None:
            self._router = Router(self._load().routes())
        route = self._router.find(path)
        assert route is not None, path  # noqa: S101 - who defers a service has tested that it has these methods
        return route
