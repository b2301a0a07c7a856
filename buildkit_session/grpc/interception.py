"""Functions of the caller's around every call that is served: they learn what is asked, may refuse, and see the end.

A call goes through its interceptors from the outermost to the innermost, and then to its handler. Each of them runs in
a cancel scope of its own. When the peer gives the call up or its deadline passes, what runs is cancelled alone, be it
the handler or an interceptor that lets the call wait; to those around it this is an end like any other, which
``proceed()`` returns from. On the way back an interceptor has ``AFTERWARDS`` seconds if the call is over for the peer.
When the session ends all are cancelled.

An error is noted where it is raised and does not pass through the interceptors: so none of them can make a failure look
like success by mistake, and the first cause is known whatever they raise themselves.
"""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from buildkit_session.errors import ConnectionClosed, LocalProtocolError, RpcError, StreamReset
from buildkit_session.grpc.metadata import Metadata
from buildkit_session.grpc.own_cancellation import no_own_cancellation
from buildkit_session.grpc.served_call import ServedCall, safe
from buildkit_session.grpc.server import Server, expired, status_of
from buildkit_session.grpc.status import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from anyio.abc import TaskGroup

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.router import Codecs, Router
    from buildkit_session.grpc.server import Opened
    from buildkit_session.http2.connection import Stream

__all__ = ["InterceptingServer", "Interceptor"]

AFTERWARDS: Final = 5.0
"""Seconds that an interceptor has for what it does after a call that the peer waits for no longer."""


class Interceptor(Protocol):
    """A function around every call of a daemon, made of ``async def audit(call, proceed)``.

    .. code-block:: python

        async def audit(call: bk.ServedCall, proceed: Callable[[], Awaitable[None]]) -> None:
            await proceed()
            print(call.method, call.subject, call.bytes_in, call.bytes_out, call.seconds, call.status.name)
    """

    async def __call__(self, call: ServedCall, proceed: Callable[[], Awaitable[None]], /) -> None:
        """Let a call proceed, or refuse it.

        Args:
            call: what is asked. One that cannot be served, as of an unknown method, is shown too.
            proceed: serves the call, by way of the interceptors further in, and returns when it has ended, however
                it did: ``call.status`` tells. To be awaited once, within cancel scopes as one likes: a call that is
                cancelled so has the status CANCELLED.

        Raises:
            RpcError: in place of ``proceed()`` or after it: the status that the daemon gets.
            Exception: any other, and returning without either: the daemon gets INTERNAL.
        """


class InterceptingServer(Server):
    """A :class:`Server` whose calls go through interceptors.

    Args:
        interceptors: the outermost first.
        session: what the calls say where they came from.
    """

    def __init__(
        self,
        router: Router,
        task_group: TaskGroup,
        *,
        interceptors: Sequence[Interceptor],
        session: str,
        on_error: Callable[[str, Exception], None] | None = None,
    ) -> None:
        super().__init__(router, task_group, on_error=on_error)
        self._interceptors = tuple(interceptors)
        self._session = session

    async def _answer(self, stream: Stream, path: str) -> tuple[IncomingCall[Any, Any] | None, RpcError]:
        call = ServedCall(path, Metadata(stream.headers), session=self._session)
        codecs: list[Codecs] = []

        def count(selected: Codecs) -> Codecs:
            codecs.append(selected)
            return call.counted(selected)

        opened: Opened | Exception
        try:
            opened = self._open(stream, path, count)
        except Exception as refusal:  # noqa: BLE001 - what becomes of it is up to the interceptors
            opened = refusal
        passage = _Passage(call, stream, opened, self._interceptors, partial(self._report, path))
        if isinstance(opened, Exception):
            await passage.run()
            return None, passage.status
        call.method = opened.route.path
        try:
            await passage.look(codecs[0])
            await passage.run()
        finally:
            opened.call.release()
        return opened.call, passage.status


class _Passage:
    """One call on its way through the interceptors to its handler, and back.

    Attributes:
        status: how it ends.
    """

    def __init__(
        self,
        call: ServedCall,
        stream: Stream,
        opened: Opened | Exception,
        interceptors: Sequence[Interceptor],
        report: Callable[[Exception], Exception],
    ) -> None:
        self.status = RpcError(Status.OK)
        self._call = call
        self._stream = stream
        self._opened = opened
        self._interceptors = interceptors
        self._report = report
        self._scopes: list[anyio.CancelScope] = []  # of what runs and of the interceptors around it, outermost first
        self._at_handler = False
        self._returning = False
        self._cause: Exception | None = None  # why the call is over, whatever its handler does
        self._ends_itself = False
        self._deadline = math.inf
        if not isinstance(opened, Exception):
            self._ends_itself = opened.route.ends_itself
            if opened.seconds is not None:
                self._deadline = anyio.current_time() + opened.seconds
                self._cause = None if opened.seconds else expired()

    async def look(self, codecs: Codecs) -> None:
        """Find out what the call asks for. What is wrong with its first request, the handler will meet as well."""
        assert not isinstance(self._opened, Exception)  # noqa: S101 - such a call has no subject
        subject, call = self._opened.route.subject, self._opened.call
        if subject is None:
            return

        async def read() -> None:
            body = await call.peek() if subject.needs_request else None
            if body is not None or not subject.needs_request:
                request = None if body is None else codecs.request.decode(body)
                self._call.subject = safe(subject.tell(call.metadata, request))

        self._watch()
        with suppress(Exception):
            await self._scoped(read, self._deadline)

    async def run(self) -> None:
        """Serve the call."""
        self._watch()
        try:
            await self._noted(0)
        finally:
            self._stream.on_reset = None

    def _watch(self) -> None:
        """Learn of it when the peer gives the call up, or has."""
        self._stream.on_reset = self._given_up
        if self._stream.failed:
            self._given_up()

    async def _noted(self, number: int) -> None:
        """Run an interceptor by its number, or after the last one the handler; a failure is noted, not raised."""
        outer = self._scopes[-1] if self._scopes else None
        if outer is not None:
            outer.deadline = math.inf  # what runs is to be cancelled alone
        try:
            if number < len(self._interceptors):
                await self._scoped(partial(self._intercept, number), self._way_in)
            else:
                await self._scoped(self._handle, self._deadline)
        except Exception as raised:  # noqa: BLE001 - of the caller's code
            self._fail(raised)
        except anyio.get_cancelled_exc_class():
            self.status = RpcError(Status.CANCELLED, "the client has cancelled the call")
            self._call.end(self.status)
            raise
        finally:
            self._returning = True
            if outer is not None:
                outer.deadline = self._way_out

    async def _intercept(self, number: int) -> None:
        begun = ended = False

        async def proceed() -> None:
            nonlocal begun, ended
            if begun:
                raise LocalProtocolError("an interceptor has called proceed() twice")
            begun = True
            try:
                await self._noted(number + 1)
            finally:
                ended = True

        with no_own_cancellation("an interceptor"):
            await self._interceptors[number](self._call, proceed)
        if not ended:
            raise LocalProtocolError("an interceptor has neither awaited proceed() nor raised an RpcError")

    async def _handle(self) -> None:
        if isinstance(self._opened, Exception):
            raise self._opened
        # One that ends itself gets what came before a reset.
        if self._cause is not None and not (self._ends_itself and self._stream.failed):
            raise self._cause
        self._at_handler = True
        try:
            with no_own_cancellation(f"the handler of {self._opened.route.path}"):
                await self._opened.route.handler(self._opened.call)
        finally:
            self._at_handler = False
        self._call.end(self.status)

    async def _scoped(self, step: Callable[[], Awaitable[None]], deadline: float) -> None:
        """Run a step, which is the innermost until it runs one itself.

        Raises:
            Exception: the call was over and the step was cancelled: why it was; or what the step raises.
        """
        with anyio.CancelScope(deadline=deadline) as scope:
            self._scopes.append(scope)
            try:
                await step()
            finally:
                self._scopes.pop()
        if scope.cancelled_caught:
            self._cause = self._cause or expired()
            raise self._cause

    @property
    def _way_in(self) -> float:
        """When an interceptor must have let the call proceed."""
        return self._deadline if self._cause is None else anyio.current_time() + AFTERWARDS

    @property
    def _way_out(self) -> float:
        """When an interceptor must have ended after it."""
        afterwards = anyio.current_time() + AFTERWARDS
        return max(self._deadline, afterwards) if self._cause is None else afterwards

    def _fail(self, raised: Exception) -> None:
        if raised is self._cause and self.status.code != Status.OK:
            return  # an interceptor was cut off, and the call has failed before that
        self.status = status_of(self._report(raised))
        if self._stream.failed and not isinstance(raised, RpcError):
            self.status = RpcError(Status.CANCELLED, "the daemon has given the call up")
        self._call.end(self.status)

    def _given_up(self) -> None:
        """The peer has reset the stream, or its connection has ended. Called by the reader."""
        if self._cause is not None:
            return
        try:
            self._stream.raise_if_failed()
        except (ConnectionClosed, StreamReset) as error:
            self._cause = error
        if not self._scopes:
            return
        if not self._returning and not self._ends_itself:
            self._scopes[-1].cancel()
        elif not self._at_handler:
            self._scopes[-1].deadline = anyio.current_time() + AFTERWARDS
