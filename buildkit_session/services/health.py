"""``grpc.health.v1.Health``: tells the daemon that this side is alive.

The daemon calls Check every second or every five and, on BuildKit 0.8 and 0.12 to 0.29, ends the session at the first
answer that is missing or not OK. So it is always served, and it waits for nothing. A daemon asks for the whole, by an
empty name; the session's services may be asked for by theirs.

Source: grpc/grpc:src/proto/grpc/health/v1/health.proto; moby/buildkit:session/grpc.go (monitorHealth).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from buildkit_session.errors import RpcError
from buildkit_session.grpc.router import Route, messages, unary
from buildkit_session.grpc.status import Status
from buildkit_session.messages.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthCheckResponseServingStatus,
    HealthListRequest,
    HealthListResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.grpc.incoming_call import IncomingCall

__all__ = ["Health"]

_SERVING = HealthCheckResponse(status=HealthCheckResponseServingStatus.SERVING)
_UNKNOWN = HealthCheckResponse(status=HealthCheckResponseServingStatus.SERVICE_UNKNOWN)


class Health:
    """Says SERVING for as long as the session lives.

    Args:
        services: the full names of those that are served.
    """

    def __init__(self, services: Iterable[str] = ()) -> None:
        self._names = {"", *services}

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        checks = messages(HealthCheckRequest, HealthCheckResponse)
        lists = messages(HealthListRequest, HealthListResponse)
        return (
            Route("/grpc.health.v1.Health/Check", unary(self._check), checks),
            Route("/grpc.health.v1.Health/List", unary(self._list), lists),
            Route("/grpc.health.v1.Health/Watch", self._watch, checks),
        )

    async def _check(self, request: HealthCheckRequest) -> HealthCheckResponse:
        if request.service not in self._names:
            raise RpcError(Status.NOT_FOUND, "unknown service")
        return _SERVING

    async def _list(self, _request: HealthListRequest) -> HealthListResponse:
        return HealthListResponse(statuses=dict.fromkeys(sorted(self._names), _SERVING))

    async def _watch(self, call: IncomingCall[HealthCheckRequest, HealthCheckResponse]) -> None:
        """Report the status, and every change of it; there is none until the session ends and the call with it.

        A name that is not known is no error here: the service might come.
        """
        request = await call.recv()
        if request is None:
            raise RpcError(Status.INTERNAL, "Watch needs a request")
        await call.send(_SERVING if request.service in self._names else _UNKNOWN)
        await anyio.sleep_forever()
