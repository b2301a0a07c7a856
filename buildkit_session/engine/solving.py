"""One build through the Control API: ``Solve`` runs it, ``Status`` tells of it, side by side.

Only the answer to ``Solve`` says how a build ended: errors of steps may be withdrawn. ``Status`` is a call of its own,
so that what is reported last (steps that were cancelled, the end of a log) still arrives after that answer. A daemon
ends it by itself, but for a build that never began it would wait for seconds.

Source: moby/buildkit:client/solve.go, solver/llbsolver/solver.go.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn, Self, TypeAlias

import anyio

from buildkit_session.engine.build_log import BuildLog
from buildkit_session.engine.progress import decode_status
from buildkit_session.errors import RemoteProtocolError, RpcError, SessionError
from buildkit_session.supervision import supervised

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from buildkit_session.engine.control import Control
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.grpc.outgoing_call import OutgoingCall
    from buildkit_session.messages.moby.buildkit import v1

    Afterwards: TypeAlias = Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]]
    """What follows the daemon's part of a build."""

__all__ = ["SolveStream", "solving"]

BACKLOG: Final = 16
"""Progress messages decoded ahead of a caller that is slow to take them; beyond that the daemon's call fills up."""

DRAIN: Final = 3.0
"""Seconds without progress, after a build has succeeded, that end the wait for more."""

SILENCE: Final = 0.5
"""The same after a failure: of a build that never began the daemon would report nothing, for six seconds."""


LINGER: Final = 10.0
"""Seconds after the end of a build after which no more progress is waited for, however much keeps coming."""


class SolveStream:
    """The progress events of one running build, in the daemon's order; made by :func:`solving`.

    The iteration ends when the build has succeeded. It raises:

    - ``BuildError``: the build failed; carries the failing step, the end of its log and places in the Dockerfile.
    - ``UnsupportedError``: the daemon or its frontend cannot do what the build needs.
    - ``ConnectionClosed``: the daemon went away.
    - ``RemoteProtocolError``: the progress is not what a daemon sends.

    A cancelled ``__anext__`` loses no event.
    """

    def __init__(
        self,
        received: MemoryObjectReceiveStream[Sequence[ProgressEvent]],
        told: MemoryObjectSendStream[Sequence[ProgressEvent]],
    ) -> None:
        self._received = received
        self._told = told  # what this side reports
        self._events: deque[ProgressEvent] = deque()
        self._log = BuildLog()
        self._solved = anyio.Event()
        self._response: Mapping[str, str] = {}
        self._error: SessionError | None = None  # how Solve failed
        self._fault: RemoteProtocolError | None = None  # what was wrong about the progress
        self._wait = anyio.CancelScope()  # the current wait for progress
        self._last_call = math.inf  # when the last of these ends, on the clock of the event loop

    @property
    def finished(self) -> bool:
        """Whether the daemon is known to be done with the build, well or not."""
        return self._solved.is_set()

    @property
    def exporter_response(self) -> Mapping[str, str]:
        """What the exporters have reported, such as ``containerimage.digest``; empty until the build has succeeded."""
        return self._response

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ProgressEvent:
        while not self._events:
            try:
                self._take(await self._received.receive())
            except anyio.EndOfStream:
                if self._fault is not None:
                    raise self._fault from None
                await self._solved.wait()
                if self._error is not None:
                    self._raise(self._error)
                raise StopAsyncIteration from None
        return self._events.popleft()

    def give_up(self, error: SessionError) -> None:
        """End the build with an error if it has not ended: its ``Solve`` waits for what will not come any more."""
        if not self._solved.is_set():
            self._end(error)

    async def tell(self, events: Sequence[ProgressEvent]) -> None:
        """Report what this side does for the build, among what the daemon reports. Waits while nobody reads."""
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # nobody listens any more
            await self._told.send(events)

    def _take(self, events: Sequence[ProgressEvent]) -> None:
        self._log.feed(events)
        self._events += events

    def _raise(self, error: SessionError) -> NoReturn:
        if not isinstance(error, RpcError):
            raise error from error.__cause__
        from buildkit_session.engine.solve_error import build_error  # noqa: PLC0415 - most builds succeed

        raise build_error(error, self._log) from error

    # -- the tasks of solving() --

    async def _solve(self, control: Control, request: v1.SolveRequest, afterwards: Afterwards | None) -> None:
        try:
            response: Mapping[str, str] = (await control.solve(request)).exporter_response
            self._response = await afterwards(response) if afterwards is not None else response
        except SessionError as error:
            self._end(error)
        else:
            self._end(None)

    def _end(self, error: SessionError | None) -> None:
        if not self._solved.is_set():
            self._error = error
            self._solved.set()
            self._told.close()
            self._last_call = anyio.current_time() + LINGER
            self._wait.deadline = self._patience()

    async def _follow(self, control: Control, ref: str, send: MemoryObjectSendStream[Sequence[ProgressEvent]]) -> None:
        with send:
            try:
                async with control.status(ref) as call:
                    await self._hand_on(call, send)
            except RemoteProtocolError as error:
                self._fault = error
                self._told.close()  # now, not at the end of the build: a daemon may never come to it
            except SessionError:
                pass  # the answer to Solve says what that means

    async def _hand_on(
        self, call: OutgoingCall[v1.StatusRequest, bytes], send: MemoryObjectSendStream[Sequence[ProgressEvent]]
    ) -> None:
        try:
            while responses := await self._next_responses(call):
                await self._pass_on([event for data in responses for event in decode_status(data)], send)
        except RpcError as error:
            if call.ended:
                raise
            raise RemoteProtocolError(f"the daemon's progress cannot be read: {error}") from error

    async def _pass_on(
        self, events: Sequence[ProgressEvent], send: MemoryObjectSendStream[Sequence[ProgressEvent]]
    ) -> None:
        """Give events to the caller. The time that he takes is not the daemon's."""
        begun = anyio.current_time()
        await send.send(events)
        self._last_call += anyio.current_time() - begun

    async def _next_responses(self, call: OutgoingCall[v1.StatusRequest, bytes]) -> list[bytes]:
        """Wait for progress; once the build has ended, not for long."""
        if anyio.current_time() >= self._last_call:
            return []
        with anyio.CancelScope(deadline=self._patience()) as self._wait:
            return await call.recv_many()
        return []

    def _patience(self) -> float:
        """When to stop waiting for progress, on the clock of the event loop."""
        if not self._solved.is_set():
            return math.inf
        return min(anyio.current_time() + (DRAIN if self._error is None else SILENCE), self._last_call)


@asynccontextmanager
async def solving(
    control: Control, request: v1.SolveRequest, *, afterwards: Afterwards | None = None
) -> AsyncIterator[SolveStream]:
    """Start a build and follow it. Leaving the block before it has ended cancels it in the daemon.

    Args:
        control: the daemon. The session that the request names may be registered before or after this.
        request: the build, with a ``ref`` of its own.
        afterwards: what is left to do before the build counts as ended, when the daemon has done its part; given what
            the exporters reported, it says what they shall have reported. It may raise any SessionError.
    """
    send, receive = anyio.create_memory_object_stream["Sequence[ProgressEvent]"](BACKLOG)
    told = send.clone()
    stream = SolveStream(receive, told)
    with receive, told:
        async with supervised() as tasks:
            tasks.start_soon(stream._solve, control, request, afterwards)
            tasks.start_soon(stream._follow, control, request.ref, send)
            yield stream
            tasks.cancel_scope.cancel()
