"""One daemon, and the way by which its BuildKit is reached.

==========  ==================================================  =====================================
way         BuildKit's Control API                              the session
==========  ==================================================  =====================================
``http2``   HTTP/2 on the Engine's own address (API 1.53)       the call ``Control/Session``
``hijack``  ``POST /grpc``, a connection that is taken over     ``POST /session``, likewise
``direct``  a buildkitd's address                               the call ``Control/Session``
``build``   none: ``POST /build`` of the Engine runs builds     ``POST /session``
==========  ==================================================  =====================================

Engines from API 1.53 on call both hijacks deprecated, but still have them; those before answer HTTP/2 with an error. So
what is newer is tried first where the Engine may have it, and what works is kept.

Source: moby/moby:api/server/router/grpc, api/server/router/session; docker/buildx:driver/docker/driver.go.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import anyio

from buildkit_session.engine.api_version import ApiVersion
from buildkit_session.engine.dialing import dial, lead_time
from buildkit_session.engine.exchange import base_path
from buildkit_session.engine.faults import unreachable
from buildkit_session.engine.hijack import hijack
from buildkit_session.engine.info import EngineInfo
from buildkit_session.engine.ping import BuildkitdFound, PodmanFound, podman_text, probe
from buildkit_session.engine.spare import Spare
from buildkit_session.engine.workers import Worker, read_workers
from buildkit_session.errors import (
    ConnectionClosed,
    EngineUnreachable,
    InputError,
    RemoteProtocolError,
    RpcError,
    SessionError,
    UnsupportedError,
    UpgradeRefused,
)
from buildkit_session.grpc.channel import Channel
from buildkit_session.grpc.status import Status
from buildkit_session.http2.client_connection import ClientConnection
from buildkit_session.supervision import supervised

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import TaskGroup

    from buildkit_session.engine.address import Endpoint
    from buildkit_session.engine.control import Control
    from buildkit_session.http2.connection import Connection

__all__ = ["Daemon", "DaemonInfo", "Link", "Way"]

Way: TypeAlias = Literal["http2", "hijack", "direct", "build"]

HTTP2_SINCE: Final = ApiVersion(1, 53)
"""The first API version whose Engine takes gRPC on its own address."""

PATIENCE: Final = 10.0
"""Seconds for a daemon's first answer on a new connection."""


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """What is known about a daemon, and how it is reached.

    Attributes:
        address: where it listens, and how that was found out.
        way: how builds are run on it; see the module :mod:`buildkit_session.engine.daemon`.
        engine: what the Engine says about itself; ``None`` for a buildkitd.
        workers: what runs the builds; empty for the way ``build``, which does not tell.
        refused: why better ways were not taken.
    """

    address: str
    way: Way
    engine: EngineInfo | None
    workers: tuple[Worker, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def is_engine(self) -> bool:
        """Whether it is a Docker Engine, with an image store of its own."""
        return self.engine is not None

    @property
    def has_containerd_store(self) -> bool:
        """Whether an Engine keeps its images in containerd's store, which can do more than its own."""
        return self.is_engine and any(worker.has_containerd_store for worker in self.workers)

    @property
    def buildkit_version(self) -> str:
        """The version of BuildKit as far as it is told; an Engine's own is often not."""
        return next((worker.version for worker in self.workers if worker.version), "")


class Link:
    """A connection to a daemon's Control API.

    Attributes:
        control: the API.
        channel: for the other services of the daemon, such as the gateway's.
    """

    def __init__(self, channel: Channel, endpoint: Endpoint, session_path: str | None, tasks: TaskGroup) -> None:
        # Here, not above: its messages take time to load, and some commands end before they need them.
        from buildkit_session.engine.control import Control  # noqa: PLC0415

        self.channel = channel
        self.control: Control = Control(channel)
        self._endpoint = endpoint
        self._session_path = session_path
        self._tasks = tasks

    async def dial_session(
        self, headers: list[tuple[str, str]], make_connection: Callable[[], Connection]
    ) -> Connection:
        """Register a session and return its connection: see :meth:`Session.serving`."""
        if self._session_path is not None:
            return await hijack(self._endpoint, self._session_path, headers, make_connection)
        from buildkit_session.engine.tunnel import open_tunnel  # noqa: PLC0415 - Engines mostly have the other

        return await open_tunnel(self.control, headers, make_connection, self._tasks)


class Daemon:
    """One daemon. Each link has a connection of its own, so that the end of one harms no other.

    The first one gets that by which :meth:`info` has asked, if it comes at once. So close a daemon in the end.

    Args:
        endpoint: where it is.
        way: the way to take; by default the best one that works.
        patience: seconds that the daemon has for a first answer.

    Raises:
        InputError: there is no such way.
    """

    def __init__(self, endpoint: Endpoint, *, way: str | None = None, patience: float = PATIENCE) -> None:
        if way is not None and way not in get_args(Way):
            raise InputError(f"there is no way {way!r} to a daemon; use one of {', '.join(get_args(Way))}")
        self.endpoint = endpoint
        self._wanted = way
        self._patience = patience
        self._info: DaemonInfo | None = None
        self._settling = anyio.Lock()
        self._spare = Spare()

    def __repr__(self) -> str:
        return f"<Daemon {self.endpoint}>"

    async def info(self) -> DaemonInfo:
        """Find out what listens there and settle on a way; the first answer is kept.

        Raises:
            EngineUnreachable: nobody answers.
            EngineError: what answers is no daemon that is known.
            UnsupportedError: it is one without BuildKit, or too old, or has not the way that was asked for.
        """
        async with self._settling:
            if self._info is None:
                self._info = await self._settle()
            return self._info

    async def aclose(self) -> None:
        """Close what no link has taken over. Links that are open stay so."""
        with anyio.CancelScope(shield=True):
            await self._spare.aclose()

    @asynccontextmanager
    async def link(self) -> AsyncIterator[Link]:
        """Connect to the Control API for the time of the block.

        Raises:
            UnsupportedError: this daemon does not offer it.
            EngineUnreachable, UpgradeRefused, ConnectionClosed: as it comes.
        """
        info = await self.info()
        if info.way == "build":
            reasons = "; ".join(info.refused) or "the way 'build' was asked for"
            raise UnsupportedError(
                f"BuildKit's own API is needed, and not to be had at {self.endpoint}: {reasons}",
                feature="BuildKit's own API",
            )
        async with self._linked(info.way, info.engine) as link:
            yield link

    async def _settle(self) -> DaemonInfo:
        found = BuildkitdFound() if self.endpoint.is_buildkitd else await probe(self.endpoint, patience=self._patience)
        if isinstance(found, PodmanFound):
            raise UnsupportedError(podman_text(found.server, self.endpoint), feature="BuildKit", found=found.server)
        engine = found if isinstance(found, EngineInfo) else None
        refused: list[str] = []
        for way in self._candidates(engine):
            if way == "build":
                return DaemonInfo(str(self.endpoint), way, engine, refused=tuple(refused))
            try:
                workers = await self._workers(way, engine)
                return DaemonInfo(str(self.endpoint), way, engine, workers, tuple(refused))
            except (ConnectionClosed, EngineUnreachable, RemoteProtocolError, RpcError, UpgradeRefused) as error:
                if engine is None and isinstance(error, ConnectionClosed):
                    # A program on the way that has ended, for most; that it was started said nothing.
                    raise unreachable(self.endpoint, OSError(str(error))) from error
                if engine is None or _is_final(error):
                    raise
                refused.append(f"{way}: {error}")
        raise UnsupportedError(f"no way to BuildKit works at {self.endpoint}: {'; '.join(refused)}")

    async def _workers(self, way: Way, engine: EngineInfo | None) -> tuple[Worker, ...]:
        """Ask a question that takes a daemon no work, and so find out whether a way leads anywhere."""
        async with self._linked(way, engine, keep=True) as link:
            with anyio.move_on_after(self._patience + lead_time(self.endpoint)):
                return read_workers(await link.control.list_workers())
            raise EngineUnreachable(
                f"cannot reach BuildKit at {self.endpoint} ({way}): no answer in time. "
                "Is the daemon stopped or overloaded?"
            )

    def _candidates(self, engine: EngineInfo | None) -> list[Way]:
        if engine is None:
            ways: list[Way] = ["direct"]
        else:
            ways = ["hijack", "build"]
            if engine.newest_api >= HTTP2_SINCE:
                ways.insert(0, "http2")
        if self._wanted is None:
            return ways
        if engine is not None and self._wanted == "http2":
            return ["http2"]
        chosen = [way for way in ways if way == self._wanted]
        if not chosen:
            what = "a buildkitd" if engine is None else "a Docker Engine"
            raise UnsupportedError(f"the way {self._wanted!r} leads to no {what[2:]}; at {self.endpoint} is {what}")
        return chosen

    @asynccontextmanager
    async def _linked(self, way: Way, engine: EngineInfo | None, *, keep: bool = False) -> AsyncIterator[Link]:
        """Have a link; with ``keep`` its connection is there for the next one, unless the block raises."""
        prefix = "" if engine is None else f"{base_path(self.endpoint.address)}/v{engine.api_version}"
        async with supervised() as tasks:
            connection = self._spare.take() or await self._connect(way, prefix)
            kept = False
            try:
                session_path = f"{prefix}/session" if way == "hijack" else None
                yield Link(Channel(connection), self.endpoint, session_path, tasks)
                kept = keep
            finally:
                tasks.cancel_scope.cancel()
                if kept:
                    self._spare.keep(connection)
                else:
                    connection.close()
                    with anyio.CancelScope(shield=True):
                        await connection.closed.wait()

    async def _connect(self, way: Way, prefix: str) -> ClientConnection:
        if way == "hijack":
            connection = await hijack(self.endpoint, f"{prefix}/grpc", (), ClientConnection)
        else:
            _, connection = await dial(self.endpoint, ClientConnection, alpn=("h2",))
        assert isinstance(connection, ClientConnection)  # noqa: S101 - what hijack was given makes these
        return connection


def _is_final(error: SessionError) -> bool:
    """Whether an Engine's answer says more than that a way is closed."""
    return isinstance(error, RpcError) and error.code not in (Status.UNIMPLEMENTED, Status.UNAVAILABLE, Status.UNKNOWN)
