"""The builds that a daemon remembers: listing them, replaying their progress, keeping and forgetting them.

A daemon keeps the last fifty builds for two days, unless it is told otherwise, and what is pinned for longer.

It is asked for all of them each time, and what is not wanted is left out here. For BuildKit 0.20 to 0.28 every other
question is dangerous. A build that was asked for by its id cannot be deleted any more, it is only marked; and the next
listing with a filter or a limit ends the whole daemon with a panic (moby/buildkit#6598).

Source: moby/buildkit:solver/llbsolver/history.go, control/control.go (ListenBuildHistory, UpdateBuildHistory, Status).
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_session.engine.history_filters import read_history_filters
from buildkit_session.engine.history_values import build_record
from buildkit_session.engine.progress import decode_status
from buildkit_session.engine.timestamps import read_timestamp
from buildkit_session.errors import InputError, RemoteProtocolError, RpcError, UnsupportedError
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.buildkit import v1

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from buildkit_session.engine.control import Control
    from buildkit_session.engine.daemon import Daemon, DaemonInfo, Link
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.engine.history_values import BuildRecord
    from buildkit_session.grpc.outgoing_call import OutgoingCall

__all__ = ["History", "Remembered"]

MAX_RECORDS: Final = 100_000
"""Builds that are read of one history; a daemon keeps fifty unless it is told otherwise."""

_NOW: Final = "buildkit-current-timestamp"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a daemon says about its history at one moment.

    Attributes:
        records: the newest build first.
        now: the moment, in nanoseconds since the Unix epoch: on the daemon's clock, or on this machine's where the
            daemon does not tell.
    """

    records: Sequence[BuildRecord]
    now: int


class History:
    """The history of one daemon. Every method connects for itself.

    Every method raises:

    - ``UnsupportedError``: the daemon keeps no history.
    - ``EngineError``, ``RpcError``, ``ConnectionClosed``: it does not answer, or refuses.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def __repr__(self) -> str:
        return f"<History of {self._daemon.endpoint}>"

    async def read(
        self, *, active_only: bool = False, filters: Iterable[str] = (), limit: int | None = None
    ) -> Remembered:
        """List builds; see :meth:`Client.history`."""
        texts = (filters,) if isinstance(filters, str) else tuple(filters)
        read_history_filters(texts, now=0)
        if limit is not None and limit < 1:
            raise InputError(f"limit must be a number of builds from 1 on, not {limit}")
        async with self._daemon.link() as link:
            found = await self._listen(link.control, active_only=active_only)
        meant = read_history_filters(texts, now=found.now)
        return Remembered([record for record in found.records if meant(record)][:limit], found.now)

    @asynccontextmanager
    async def replay(self, ref: str) -> AsyncIterator[AsyncIterator[ProgressEvent]]:
        """Give the progress of a build; see :meth:`Client.history_logs`."""
        async with self._daemon.link() as link:
            await self._require(link, ref)
            async with link.control.status(ref) as call:
                yield _events(call)

    async def remove(self, refs: Iterable[str]) -> None:
        """Forget builds; see :meth:`Client.remove_history`."""
        wanted = dict.fromkeys(refs)
        async with self._daemon.link() as link:
            known = await self._refs(link)
            for ref in wanted:
                if ref in known:
                    await self._update(link.control, v1.UpdateBuildHistoryRequest(ref=ref, delete=True))
        if missing := [ref for ref in wanted if ref not in known]:
            raise _no_record(*missing)

    async def pin(self, ref: str, *, pinned: bool) -> None:
        """Keep a build, or no longer; see :meth:`Client.pin_history`."""
        async with self._daemon.link() as link:
            await self._require(link, ref)
            await self._update(link.control, v1.UpdateBuildHistoryRequest(ref=ref, pinned=pinned))

    async def _require(self, link: Link, ref: str) -> None:
        """Make sure that there is such a build: for what it does not know, the daemon waits for seconds."""
        if ref not in await self._refs(link):
            raise _no_record(ref)

    async def _refs(self, link: Link) -> set[str]:
        return {record.ref for record in (await self._listen(link.control)).records}

    async def _listen(self, control: Control, *, active_only: bool = False) -> Remembered:
        request = v1.BuildHistoryRequest(active_only=active_only, early_exit=True)
        async with self._known(), control.listen_build_history(request) as call:
            said = (await call.headers()).get(_NOW)
            found = {}  # a build that ends meanwhile comes twice
            while (event := await call.recv()) is not None:
                if event.type != v1.BuildHistoryEventType.DELETED and event.record is not None:
                    found[event.record.ref] = build_record(event.record)
                if len(found) > MAX_RECORDS:
                    raise RemoteProtocolError(f"the daemon lists more than {MAX_RECORDS} builds")
        records = sorted(found.values(), key=lambda record: record.created or 0, reverse=True)
        return Remembered(records, _moment(said))

    async def _update(self, control: Control, request: v1.UpdateBuildHistoryRequest) -> None:
        async with self._known():
            await control.update_build_history(request)

    @asynccontextmanager
    async def _known(self) -> AsyncIterator[None]:
        """Say what a daemon that does not know these methods lacks."""
        try:
            yield
        except RpcError as error:
            if error.code != Status.UNIMPLEMENTED:
                raise
            raise _too_old(await self._daemon.info()) from error


async def _events(call: OutgoingCall[v1.StatusRequest, bytes]) -> AsyncIterator[ProgressEvent]:
    while responses := await call.recv_many():
        for data in responses:
            for event in decode_status(data):
                yield event


def _too_old(info: DaemonInfo) -> UnsupportedError:
    found = info.engine.server if info.engine is not None else f"buildkitd {info.buildkit_version}".strip()
    return UnsupportedError(
        feature="build history", needs="BuildKit 0.11 (Docker 24.0)", found=found, address=info.address
    )


def _no_record(*refs: str) -> InputError:
    names = ", ".join(f'"{ref}"' for ref in refs)
    return InputError(f"no record found for ref {names}")


def _moment(said: str | None) -> int:
    try:
        return read_timestamp(said or "")
    except ValueError:
        return time.time_ns()
