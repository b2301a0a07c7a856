"""What a daemon may call on a session: one module a service, all of one shape.

A service is a class with a method ``routes()``, which returns a :class:`~buildkit_session.grpc.router.Route` for each
of its methods. The session serves and advertises those, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.grpc.router import Route

__all__ = ["Service"]


class Service(Protocol):
    """Something a session can serve."""

    def routes(self) -> Iterable[Route]:
        """The methods it serves."""
        ...
