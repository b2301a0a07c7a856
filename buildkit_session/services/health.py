"""``grpc.health.v1.Health``: tells the daemon that this side is alive.

The daemon calls Check every second or every five and, on BuildKit 0.8 and 0.12 to 0.29, ends the session at the first
answer that is missing or not OK. So it is always served, and it waits for nothing.

Source: grpc/grpc:src/proto/grpc/health/v1/health.proto; moby/buildkit:session/grpc.go (monitorHealth).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from buildkit_session.grpc.router import Route, messages, unary
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


class Health:
    """Says SERVING for as long as the session lives."""

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        checks = messages(HealthCheckRequest, HealthCheckResponse)
        lists = messages(HealthListRequest, HealthListResponse)
        return (
            Route("/grpc.health.v1.Health/Check", unary(_check), checks),
            Route("/grpc.health.v1.Health/List", unary(_list), lists),
            Route("/grpc.health.v1.Health/Watch", _watch, checks),
        )


async def _check(_request: HealthCheckRequest) -> HealthCheckResponse:
    return _SERVING


async def _list(_request: HealthListRequest) -> HealthListResponse:
    return HealthListResponse(statuses={"": _SERVING})


async def _watch(call: IncomingCall[HealthCheckRequest, HealthCheckResponse]) -> None:
    """Report the status, and every change of it; there is none until the session ends and the call with it."""
    await call.send(_SERVING)
    await anyio.sleep_forever()
