"""What a daemon's BuildKit knows of, by the names that BuildKit itself gives to such things.

Only the service for frontends tells, and it answers nobody but the leader of a build. So one is begun, with nothing in
it, and cancelled after the answer; the daemon keeps no record of it.

Source: docker/buildx:commands/prune.go (loadLLBCaps); moby/buildkit:client/build.go (Build), solver/pb/caps.go.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from buildkit_session.engine.gateway import Gateway
from buildkit_session.errors import SessionError, UnsupportedError
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.supervision import supervised

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildkit_session.engine.control import Control
    from buildkit_session.engine.daemon import Link

__all__ = [
    "FREE_SPACE",
    "SESSION_EXPORTER",
    "SEVERAL_OUTPUTS",
    "SOURCE_POLICY",
    "SOURCE_POLICY_SESSION",
    "ULIMITS",
    "RunSetting",
    "find_capabilities",
    "require_run_settings",
    "require_session_exporter",
    "require_several_outputs",
    "require_source_policy",
    "require_source_policy_session",
]

FREE_SPACE: Final = "gc.freespacefilter"
"""Pruning knows limits of what may be used and of what must stay free. Since BuildKit 0.17."""

SEVERAL_OUTPUTS: Final = "exporter.multiple"
"""A build may have more than one output. Since BuildKit 0.13; daemons before that make the first one alone."""

SOURCE_POLICY: Final = "source.policy"
"""A build may have rules about its sources. Since BuildKit 0.11; daemons before that do not look at them."""

SOURCE_POLICY_SESSION: Final = "source.policy.session"
"""A build may ask its session about each source. Since BuildKit 0.26; daemons before that use whatever they like."""

SESSION_EXPORTER: Final = "exporter.session"
"""A build may ask its session for outputs. Since BuildKit 0.21; daemons before that export nothing more."""

ULIMITS: Final = "exec.meta.ulimit"
"""Steps may have limits. Since BuildKit 0.10."""

RunSetting: TypeAlias = Literal["ulimits", "shm_size", "cgroup_parent"]

# What they are called, and what they need; all since BuildKit 0.10. Whichever frontend a Dockerfile names leaves one
# out without a word where the daemon cannot do it (moby/buildkit:frontend/dockerfile/dockerfile2llb/convert.go,
# dispatchRun).
_RUN_SETTINGS: Final[Mapping[RunSetting, tuple[str, str]]] = {
    "ulimits": ("a ulimit", ULIMITS),
    "shm_size": ("a size of /dev/shm", "exec.mount.tmpfs.size"),
    "cgroup_parent": ("a cgroup parent", "exec.meta.cgroup.parent"),
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


async def require_several_outputs(link: Link, *, address: str) -> None:
    """Refuse a build with more than one output where the daemon would silently leave some out.

    Raises:
        UnsupportedError: it would.
        RpcError, ConnectionClosed: the daemon did not answer.
    """
    if SEVERAL_OUTPUTS not in await find_capabilities(link):
        raise UnsupportedError(
            "multiple outputs currently unsupported by the current BuildKit daemon, please upgrade to version v0.13+ "
            f"(Docker Engine 26.0) or use a single output; the daemon is at {address}",
            feature="multiple outputs",
            needs="BuildKit v0.13",
        )


async def require_source_policy(link: Link, *, address: str) -> None:
    """Refuse a build with rules about its sources where the daemon would ignore them.

    Raises:
        UnsupportedError: it would.
        RpcError, ConnectionClosed: the daemon did not answer.
    """
    if SOURCE_POLICY not in await find_capabilities(link):
        raise UnsupportedError(
            feature="a source policy", needs="BuildKit 0.11 (Docker 24.0)", found="an older one", address=address
        )


async def require_source_policy_session(link: Link, *, address: str) -> None:
    """Refuse a build whose policy is a function where the daemon would not ask it.

    Raises:
        UnsupportedError: it would not.
        RpcError, ConnectionClosed: the daemon did not answer.
    """
    if SOURCE_POLICY_SESSION not in await find_capabilities(link):
        raise UnsupportedError(
            feature="a function as source policy",
            needs="BuildKit 0.26",
            found="an older one",
            address=address,
        )


async def require_session_exporter(link: Link, *, address: str) -> None:
    """Refuse a build with a session exporter where the daemon would not ask it.

    Raises:
        UnsupportedError: it would not.
        RpcError, ConnectionClosed: the daemon did not answer.
    """
    if SESSION_EXPORTER not in await find_capabilities(link):
        raise UnsupportedError(
            feature="a session exporter", needs="BuildKit 0.21", found="an older one", address=address
        )


async def require_run_settings(link: Link, settings: Iterable[RunSetting], *, address: str) -> None:
    """Refuse a build with settings of ``RUN`` steps that its frontend would leave out.

    Raises:
        UnsupportedError: it would.
        RpcError, ConnectionClosed: the daemon did not answer.
    """
    known = await find_capabilities(link)
    for feature, capability in (_RUN_SETTINGS[setting] for setting in settings):
        if capability not in known:
            raise UnsupportedError(
                feature=feature, needs="BuildKit 0.10 (Docker 23.0)", found="an older one", address=address
            )


async def _hold(control: Control, request: v1.SolveRequest) -> None:
    with suppress(SessionError):  # the answer to the question says what matters
        await control.solve(request)
