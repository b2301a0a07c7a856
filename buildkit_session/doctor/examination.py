"""Examines what builds depend on: the daemon, the way to it, and what is on this machine beside it.

Everything is a finding: nothing that is missing or broken raises. Questions are few and cheap, and each has its limit
of time, so that an answer comes within seconds whatever listens at the address.
"""

from __future__ import annotations

import os
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread

from buildkit_session.doctor.finding import Finding, Level
from buildkit_session.doctor.machine import find_sockets, look_around
from buildkit_session.engine.capabilities import ULIMITS, find_capabilities
from buildkit_session.engine.client import EngineClient
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.daemon import Daemon
from buildkit_session.engine.faults import unreachable
from buildkit_session.engine.history import History
from buildkit_session.errors import EngineUnreachable, SessionError, UnsupportedError
from buildkit_session.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from buildkit_session.engine.address import Endpoint
    from buildkit_session.engine.daemon import DaemonInfo
    from buildkit_session.engine.workers import Worker

__all__ = ["examine"]

PATIENCE: Final = 5.0
"""Seconds for the daemon to say what it is, and again for its history."""

SKEW: Final = 5 * 10**9
"""Nanoseconds that the clocks of the daemon and of this machine may differ by."""

_RESTART: Final = "look at the daemon's log, or restart it"

# Architectures that one machine runs without help.
_KIN: Final = ({"amd64", "386"}, {"arm64", "arm"})


async def examine(
    find: Callable[[], Endpoint] = find_endpoint, *, environ: Mapping[str, str] = os.environ
) -> list[Finding]:
    """Examine a daemon and this machine.

    Args:
        find: finds the daemon; how it fails is a finding, too.
        environ: the environment.
    """
    return [*await _examine_daemon(find, environ), *await to_thread.run_sync(look_around, environ)]


async def _examine_daemon(find: Callable[[], Endpoint], environ: Mapping[str, str]) -> list[Finding]:
    try:
        endpoint = await to_thread.run_sync(find)
    except SessionError as error:
        return [Finding(Level.BROKEN, "address", str(error), "correct it: -H, DOCKER_HOST, or 'docker context ls'")]
    async with aclosing(Daemon(endpoint)) as daemon:
        try:
            with anyio.fail_after(PATIENCE):
                info = await daemon.info()
        except TimeoutError as error:
            return [_unusable(unreachable(endpoint, error), endpoint, environ)]
        except SessionError as error:
            return [_unusable(error, endpoint, environ)]
        described = [*_daemon(info), *_platforms(info.workers)]
        if info.way == "build":
            return [*described, *await _session(daemon, info)]
        return [*described, *await _frontend(daemon), *await _history(daemon)]


def _unusable(error: SessionError, endpoint: Endpoint, environ: Mapping[str, str]) -> Finding:
    elsewhere = _elsewhere(endpoint, environ)
    if isinstance(error, EngineUnreachable):
        return Finding(Level.BROKEN, "daemon", error.fact, f"{error.advice} {elsewhere}".strip())
    return Finding(Level.BROKEN, "daemon", str(error), elsewhere or "name another daemon with -H or DOCKER_HOST")


def _elsewhere(endpoint: Endpoint, environ: Mapping[str, str]) -> str:
    others = [found for found in find_sockets(environ) if found != str(endpoint.address)]
    return f"There are other sockets: try {' or '.join(f'-H {other}' for other in others)}" if others else ""


def _daemon(info: DaemonInfo) -> Iterator[Finding]:
    engine = info.engine
    if engine is None:
        yield Finding(Level.OK, "daemon", f"buildkitd {info.buildkit_version} at {info.address}".replace("  ", " "))
    else:
        yield Finding(Level.OK, "daemon", f"{engine.server}, API {engine.newest_api}, at {info.address}")
        if engine.os_type == "windows":
            yield Finding(Level.LIMITED, "system", "a Windows daemon: this library was not tried with one")
    yield _way(info)
    if info.workers:
        yield _store(info)


def _way(info: DaemonInfo) -> Finding:
    if info.way != "build":
        return Finding(Level.OK, "BuildKit", f"its own API can be used ({info.way})")
    reasons = "; ".join(info.refused) or "no reason was given"
    return Finding(
        Level.LIMITED,
        "BuildKit",
        f"builds run by POST /build, with one output and one platform each, and without history: {reasons}",
        "use the address of the Engine itself: what stands before it must pass on 'Upgrade: h2c' of POST /grpc",
    )


def _store(info: DaemonInfo) -> Finding:
    if not info.is_engine:
        return Finding(Level.OK, "results", "images can be pushed and exported, but the daemon keeps none itself")
    if info.has_containerd_store:
        return Finding(
            Level.OK, "image store", "containerd's: archives of images, several platforms, attestations and caches work"
        )
    return Finding(
        Level.LIMITED,
        "image store",
        "the classic one: it has no archives of images, several platforms, attestations, or caches other than inline",
        'let the Engine use containerd\'s: {"features": {"containerd-snapshotter": true}} in its daemon.json (Docker '
        "24.0 and newer; it does not show the images of the other store)",
    )


def _platforms(workers: tuple[Worker, ...]) -> Iterator[Finding]:
    platforms = list(dict.fromkeys(platform for worker in workers for platform in worker.platforms))
    if not platforms:
        return
    machines = {platform.split("/")[1] for platform in platforms if "/" in platform}
    text = f"RUN works for {', '.join(platforms)}"
    if len(machines) == 1 or any(machines <= kin for kin in _KIN):
        advice = "steps for other machines need QEMU: docker run --privileged --rm tonistiigi/binfmt --install all"
        yield Finding(Level.LIMITED, "platforms", text, advice)
    else:
        yield Finding(Level.OK, "platforms", text)


async def _session(daemon: Daemon, info: DaemonInfo) -> list[Finding]:
    """Open what ``POST /build`` fetches files through; proxies of the API that answer a ping may not know it."""
    try:
        with anyio.fail_after(PATIENCE):
            async with (
                EngineClient(daemon.endpoint, info=info.engine) as engine,
                Session(()).serving(engine.dial_session),
            ):
                return []
    except (SessionError, TimeoutError) as error:
        text = f"builds do not work: {str(error) or f'no answer within {PATIENCE:g} seconds'}"
        advice = (
            "what stands before the Engine must pass on 'Upgrade: h2c' of POST /session; use the Engine's own address"
        )
        return [Finding(Level.BROKEN, "session", text, advice)]


async def _frontend(daemon: Daemon) -> list[Finding]:
    """Say what builds cannot have with a BuildKit older than 0.10, whose Dockerfile frontend is older than 1.4."""
    try:
        with anyio.fail_after(PATIENCE):
            async with daemon.link() as link:
                if ULIMITS in await find_capabilities(link):
                    return []
    except (SessionError, TimeoutError) as error:
        return [Finding(Level.BROKEN, "frontend", str(error) or f"no answer within {PATIENCE:g} seconds", _RESTART)]
    return [
        Finding(
            Level.LIMITED,
            "frontend",
            "BuildKit is older than 0.10: no limits, size of /dev/shm or cgroup for RUN, and its own Dockerfile "
            "frontend has no named contexts and answers no questions",
            "'# syntax=docker/dockerfile:1' in a Dockerfile takes a newer frontend; for the rest use Docker 23.0 or "
            "newer",
        )
    ]


async def _history(daemon: Daemon) -> list[Finding]:
    before = time.time_ns()
    try:
        with anyio.fail_after(PATIENCE):
            now = (await History(daemon).read(active_only=True)).now
    except UnsupportedError as error:
        return [Finding(Level.LIMITED, "history", str(error), "'history' does not work; builds do not need it")]
    except (SessionError, TimeoutError) as error:
        return [Finding(Level.BROKEN, "history", str(error) or f"no answer within {PATIENCE:g} seconds", _RESTART)]
    return [Finding(Level.OK, "history", "builds are remembered"), *_clock(now, before, time.time_ns())]


def _clock(now: int, before: int, after: int) -> Iterator[Finding]:
    """Compare the daemon's clock, read between two looks at this machine's."""
    ahead = now - (before + after) // 2
    if abs(ahead) > SKEW + (after - before):
        seconds, way = abs(ahead) // 10**9, "ahead of" if ahead > 0 else "behind"
        text = f"the daemon's is {seconds} seconds {way} this machine's"
        yield Finding(
            Level.LIMITED, "clock", text, "set both by NTP: ages of builds and of cache records come out wrong"
        )
