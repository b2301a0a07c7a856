"""A question to the frontend of a build, put by the gateway: the one way on which its answer comes back.

Source: docker/buildx:build/build.go (frontend.caps, requestid), moby/buildkit:frontend/gateway/pb/gateway.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildkit_session.engine.gateway import gateway_build
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.messages.moby.buildkit.v1 import frontend

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from buildkit_session.engine.daemon import Link
    from buildkit_session.engine.gateway import Gateway
    from buildkit_session.engine.solving import SolveStream
    from buildkit_session.engine.subrequest import Call

__all__ = ["Question"]


@dataclass(slots=True)
class Question:
    """One question.

    Attributes:
        call: what is asked for.
        metadata: the answer, once the build that carries it has ended.
    """

    call: Call
    metadata: Mapping[str, bytes] = field(default_factory=dict)

    def put(self, link: Link, solve: v1.SolveRequest) -> AbstractAsyncContextManager[SolveStream]:
        """Ask what the build ``solve`` would have its frontend do; follow it as :func:`~.solving.solving` does.

        History does not keep it, and nothing is exported.
        """
        asked = frontend.SolveRequest(
            frontend=solve.frontend,
            frontend_opt=self.call.attributes(solve.frontend_attrs),
            frontend_inputs=solve.frontend_inputs,
            cache_imports=[
                frontend.CacheOptionsEntry(entry.type, entry.attrs)
                for entry in (solve.cache.imports if solve.cache is not None else ())
            ],
        )

        async def ask(gateway: Gateway) -> frontend.Result:
            result = await gateway.solve(asked)
            self.metadata = result.metadata
            return result

        waiting = v1.SolveRequest(
            ref=solve.ref,
            session=solve.session,
            frontend_attrs=solve.frontend_attrs,
            cache=solve.cache,
            entitlements=solve.entitlements,
            source_policy=solve.source_policy,
            source_policy_session=solve.source_policy_session,
            internal=True,
        )
        return gateway_build(link, waiting, ask)
