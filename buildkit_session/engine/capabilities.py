"""What a daemon's BuildKit knows of, by the names that BuildKit itself gives to such things.

Only the service for frontends tells, and it answers nobody but the leader of a build. So one is begun, with nothing in
it, and cancelled after the answer; the daemon keeps no record of it.

Source: docker/buildx:commands/prune.go (loadLLBCaps); moby/buildkit:client/build.go (Build), solver/pb/caps.go.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from buildkit_session.engine.gateway import Gateway
from buildkit_session.errors import SessionError, UnsupportedError
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.supervision import supervised

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildkit_session.engine.control import Control
    from buildkit_session.engine.daemon import Link

__all__ = ["FREE_SPACE", "ULIMITS", "Feature", "find_capabilities", "require"]

FREE_SPACE: Final = "gc.freespacefilter"
"""Pruning knows limits of what may be used and of what must stay free. Since BuildKit 0.17."""

ULIMITS: Final = "exec.meta.ulimit"
"""Steps may have limits. Since BuildKit 0.10."""

Feature: TypeAlias = Literal[
    "several_outputs", "source_policy", "policy_function", "session_exporter", "ulimits", "shm_size", "cgroup_parent"
]
"""What a build may ask for, and an older daemon would leave out without a word."""


class _Need(NamedTuple):
    """What a feature is called, the capability that it needs, and the release that first had it."""

    name: str
    capability: str
    release: str


_RUN_RELEASE: Final = "BuildKit 0.10 (Docker 23.0)"

# Of several outputs an older daemon makes the first alone; it does not look at rules about sources; it does not ask its
# session about sources or for outputs. Settings of steps are left out by whichever frontend a Dockerfile names
# (moby/buildkit:frontend/dockerfile/dockerfile2llb/convert.go, dispatchRun).
_NEEDS: Final[Mapping[Feature, _Need]] = {
    "several_outputs": _Need("multiple outputs", "exporter.multiple", "BuildKit v0.13"),
    "source_policy": _Need("a source policy", "source.policy", "BuildKit 0.11 (Docker 24.0)"),
    "policy_function": _Need("a function as source policy", "source.policy.session", "BuildKit 0.26"),
    "session_exporter": _Need("a session exporter", "exporter.session", "BuildKit 0.21"),
    "ulimits": _Need("a ulimit", ULIMITS, _RUN_RELEASE),
    "shm_size": _Need("a size of /dev/shm", "exec.mount.tmpfs.size", _RUN_RELEASE),
    "cgroup_parent": _Need("a cgroup parent", "exec.meta.cgroup.parent", _RUN_RELEASE),
}


async def find_capabilities(link: Link) -> frozenset[str]:
    """Ask what may be in a definition, and what else the daemon lists beside it.

    Raises:
        RpcError, ConnectionClosed: the daemon did not answer.
    """
    request = v1.SolveRequest(ref=secrets.token_hex(16), internal=True)
    async with supervised() as tasks:
        tasks.start_soon(_hold, link.control, request)
        try:
            pong = await Gateway(link.channel, request.ref).ping()
        finally:
            tasks.cancel_scope.cancel()
    return frozenset(cap.id for cap in pong.llb_caps if cap.enabled)


async def require(link: Link, features: Iterable[Feature], *, address: str) -> None:
    """Refuse a build of which the daemon would leave something out; asks once for all of it.

    Raises:
        UnsupportedError: it would; names the first such feature.
        RpcError, ConnectionClosed: the daemon did not answer.
    """
    known = await find_capabilities(link)
    for feature in features:
        name, capability, release = _NEEDS[feature]
        if capability in known:
            continue
        if feature == "several_outputs":
            raise UnsupportedError(  # in buildx's words
                "multiple outputs currently unsupported by the current BuildKit daemon, please upgrade to version "
                f"v0.13+ (Docker Engine 26.0) or use a single output; the daemon is at {address}",
                feature=name,
                needs=release,
            )
        raise UnsupportedError(feature=name, needs=release, found="an older one", address=address)


async def _hold(control: Control, request: v1.SolveRequest) -> None:
    with suppress(SessionError):  # the answer to the question says what matters
        await control.solve(request)
