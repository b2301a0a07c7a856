"""``moby.buildkit.v1.Control``: what a BuildKit daemon is asked, whichever way it is reached.

Source: moby/buildkit:api/services/control/control.proto.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from buildkit_session.grpc.codec import BYTES, MessageCodec
from buildkit_session.messages.moby.buildkit import v1

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from contextlib import AbstractAsyncContextManager

    import betterproto2

    from buildkit_session.grpc.channel import Channel
    from buildkit_session.grpc.codec import Codec
    from buildkit_session.grpc.outgoing_call import OutgoingCall
    from buildkit_session.messages.moby.buildkit.v1.types import WorkerRecord
    from buildkit_session.messages.moby.filesync.v1 import BytesMessage

__all__ = ["Control"]

PATIENCE: Final = 30.0
"""Seconds for the answer to a question that takes the daemon no work."""

HISTORY_PATIENCE: Final = 60.0
"""Seconds for all that a daemon remembers: some thousand builds, where it was told to keep so many."""

_Request = TypeVar("_Request", bound="betterproto2.Message")
_Answer = TypeVar("_Answer", bound="betterproto2.Message")
_Decoded = TypeVar("_Decoded")


class Control:
    """The methods of the Control API as the schema has them, on one connection.

    Every method raises ``RpcError`` for a status other than OK (UNIMPLEMENTED where the daemon is older than the
    method) and ``ConnectionClosed`` when the connection ends first. A cancelled call is cancelled in the daemon too.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def solve(self, request: v1.SolveRequest) -> v1.SolveResponse:
        """Run a build to its end. Cancelling this call cancels the build."""
        return await self._channel.unary(_path("Solve"), request, v1.SolveResponse)

    def status(self, ref: str) -> AbstractAsyncContextManager[OutgoingCall[v1.StatusRequest, bytes]]:
        """Follow a build, or replay one that has ended.

        The responses are serialized: see :func:`~buildkit_session.engine.progress.decode_status`.
        """
        return self._asked("Status", v1.StatusRequest(ref=ref), BYTES)

    def session(
        self, metadata: Iterable[tuple[str, str]]
    ) -> AbstractAsyncContextManager[OutgoingCall[BytesMessage, BytesMessage]]:
        """Open the tunnel of a session, see :mod:`~buildkit_session.engine.tunnel`."""
        from buildkit_session.services.pieces import PIECES  # noqa: PLC0415 - most sessions have a connection

        return self._channel.call(_path("Session"), request=PIECES, response=PIECES, metadata=metadata)

    async def list_workers(self) -> list[WorkerRecord]:
        """Return the daemon's workers, with their labels and platforms."""
        return (await self._ask("ListWorkers", v1.ListWorkersRequest(), v1.ListWorkersResponse)).record

    async def info(self) -> v1.InfoResponse:
        """Return the daemon's version. Since BuildKit 0.11."""
        return await self._ask("Info", v1.InfoRequest(), v1.InfoResponse)

    async def disk_usage(self, filters: Iterable[str] = ()) -> list[v1.UsageRecord]:
        """Return what the build cache holds; as slow as the daemon's disk, so without a limit of time."""
        request = v1.DiskUsageRequest(filter=list(filters))
        return (await self._channel.unary(_path("DiskUsage"), request, v1.DiskUsageResponse)).record

    def prune(
        self, request: v1.PruneRequest
    ) -> AbstractAsyncContextManager[OutgoingCall[v1.PruneRequest, v1.UsageRecord]]:
        """Remove what the build cache holds; the responses are what has gone."""
        return self._asked("Prune", request, MessageCodec(v1.UsageRecord))

    def listen_build_history(
        self, request: v1.BuildHistoryRequest
    ) -> AbstractAsyncContextManager[OutgoingCall[v1.BuildHistoryRequest, v1.BuildHistoryEvent]]:
        """Follow the history of builds: those that run, those that are kept, then what changes. Since BuildKit 0.11.

        A request with ``early_exit`` asks for what is there now alone, and has ``HISTORY_PATIENCE`` seconds.
        """
        timeout = HISTORY_PATIENCE if request.early_exit else None
        return self._asked("ListenBuildHistory", request, MessageCodec(v1.BuildHistoryEvent), timeout=timeout)

    async def update_build_history(self, request: v1.UpdateBuildHistoryRequest) -> None:
        """Pin, delete or finish a record of the history. Since BuildKit 0.11."""
        await self._ask("UpdateBuildHistory", request, v1.UpdateBuildHistoryResponse)

    async def _ask(self, method: str, request: _Request, answer: type[_Answer]) -> _Answer:
        return await self._channel.unary(_path(method), request, answer, timeout=PATIENCE)

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        request: _Request,
        response: Codec[_Decoded],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a deadline that the server is told as well
    ) -> AsyncIterator[OutgoingCall[_Request, _Decoded]]:
        """Ask for a stream of responses."""
        codec = MessageCodec(type(request))
        async with self._channel.call(_path(method), request=codec, response=response, timeout=timeout) as call:
            await call.send(request)
            call.end()
            yield call


def _path(method: str) -> str:
    return f"/moby.buildkit.v1.Control/{method}"
