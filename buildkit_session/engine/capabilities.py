"""What a daemon's BuildKit knows of, by the names that BuildKit itself gives to such things.

Only the service for frontends tells, and it answers nobody but the leader of a build. So one is begun, with nothing in
it, and cancelled after the answer; the daemon keeps no record of it.

Source: docker/buildx:commands/prune.go (loadLLBCaps); moby/buildkit:client/build.go (Build),
client/buildid/metadata.go, control/gateway/gateway.go (lookupForwarder), solver/pb/caps.go.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import SessionError
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.messages.moby.buildkit.v1 import frontend
from buildkit_session.supervision import supervised

if TYPE_CHECKING:
    from buildkit_session.engine.control import Control
    from buildkit_session.engine.daemon import Link

__all__ = ["FREE_SPACE", "find_capabilities"]

FREE_SPACE: Final = "gc.freespacefilter"
"""Pruning knows limits of what may be used and of what must stay free. Since BuildKit 0.17."""

_PING: Final = "/moby.buildkit.v1.frontend.LLBBridge/Ping"
_BUILD: Final = "buildkit-controlapi-buildid"

PATIENCE: Final = 10.0
"""Seconds for the answer; the daemon itself waits for the build for three."""


async def find_capabilities(link: Link) -> frozenset[str]:
    """Ask what may be in a definition, and what else the daemon lists beside it.

    Raises:
        RpcError, ConnectionClosed: the daemon did not answer.
    """
    request = v1.SolveRequest(ref=secrets.token_hex(16), internal=True)
    async with supervised() as tasks:
        tasks.start_soon(_hold, link.control, request)
        try:
            pong = await link.channel.unary(
                _PING, frontend.PingRequest(), frontend.PongResponse, metadata=[(_BUILD, request.ref)], timeout=PATIENCE
            )
        finally:
            tasks.cancel_scope.cancel()
    return frozenset(cap.id for cap in pong.llb_caps if cap.enabled)


async def _hold(control: Control, request: v1.SolveRequest) -> None:
    with suppress(SessionError):  # the answer to the question says what matters
        await control.solve(request)
