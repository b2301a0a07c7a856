"""Serves the streams of a connection through a router: one task a call, deadlines, cancellation, status."""

from __future__ import annotations

import logging
from traceback import format_exception
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio

from buildkit_session.errors import RpcError, first_cause
from buildkit_session.grpc.allowance import Allowance
from buildkit_session.grpc.deadline import parse_timeout
from buildkit_session.grpc.incoming_call import RESPONSE_HEADERS, IncomingCall
from buildkit_session.grpc.metadata import Metadata, is_grpc
from buildkit_session.grpc.own_cancellation import is_cancelled, no_own_cancellation
from buildkit_session.grpc.status import Status, status_trailers
from buildkit_session.http2.frames import CANCEL, REFUSED_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from buildkit_session.grpc.router import Codecs, Route, Router
    from buildkit_session.http2.connection import Stream

__all__ = ["Opened", "Server", "expired", "status_of"]

MAX_HANDLERS: Final = 1000
"""Handlers running at once, those of reset streams that still clean up included: four times the open streams."""

MAX_HEADERS: Final = 32 * 1024 * 1024
"""Bytes of the headers of all calls that run: the patterns of a build are hundreds of kilobytes, of a few calls."""

MAX_SHOWN: Final = 200
"""Characters of a path that are repeated: a peer may make it a megabyte long."""

log = logging.getLogger("buildkit_session.grpc")


class Server:
    """Gives every new stream a task in ``task_group``.

    Args:
        router: finds handlers; may grow while serving.
        task_group: owns the calls; cancelling it resets the streams that are open.
        on_error: told why a call did not end with OK, its path and the exception; must not raise.
            The peer is told an exception's text only if it is an :class:`RpcError`; others may hold paths or secrets.
    """

    def __init__(
        self, router: Router, task_group: TaskGroup, *, on_error: Callable[[str, Exception], None] | None = None
    ) -> None:
        self._router = router
        self._task_group = task_group
        self._on_error = on_error
        self._running = 0
        self._headers = 0  # bytes, of the calls that run
        self._allowance = Allowance()

    def accept(self, stream: Stream) -> None:
        """Start to serve a stream. Never waits, so that it can be called from the reader."""
        headers = sum(len(name) + len(value) for name, value in stream.headers)
        if self._running >= MAX_HANDLERS or self._headers + headers > MAX_HEADERS:
            stream.reset(REFUSED_STREAM)
            return
        self._running += 1
        self._headers += headers
        self._task_group.start_soon(self._serve, stream, headers, name=f"stream {stream.id}")

    async def _serve(self, stream: Stream, headers: int) -> None:
        try:
            if (refusal := _refusal(stream)) is not None:
                stream.send_trailers([(b":status", refusal)])
                return
            await self._serve_grpc(stream)
        except anyio.get_cancelled_exc_class():
            stream.reset(CANCEL)
            if is_cancelled():  # else it was this call alone
                raise
        finally:
            self._running -= 1
            self._headers -= headers

    async def _serve_grpc(self, stream: Stream) -> None:
        # No method has other characters; escaped, so that what looks alike does not match.
        path = _header(stream, b":path").decode("ascii", "backslashreplace")
        call, status = await self._answer(stream, path)
        # Of a stream that was reset nobody hears any more.
        log.debug("> %s %d %s", path[:MAX_SHOWN], status.code, status.message)
        if call is not None:
            call.finish(status.code, status.message, status.details)
        else:
            stream.send_trailers(RESPONSE_HEADERS + status_trailers(status.code, status.message, status.details))

    async def _answer(self, stream: Stream, path: str) -> tuple[IncomingCall[Any, Any] | None, RpcError]:
        """Serve a call; returns it, ``None`` if it could not be opened, and its status."""
        call: IncomingCall[Any, Any] | None = None
        try:
            opened = self._open(stream, path)
            call = opened.call
            await _run(stream, opened)
        except Exception as raised:  # noqa: BLE001 - reported
            return call, status_of(self._report(path, raised))
        return call, RpcError(Status.OK)

    def _open(self, stream: Stream, path: str, count: Callable[[Codecs], Codecs] | None = None) -> Opened:
        """Find out what a call is about.

        Args:
            stream: of the call.
            path: its method.
            count: is given the codecs that were selected, and may return others in their place.

        Raises:
            RpcError: it cannot be served.
        """
        route = self._router.find(path)
        if route is None:
            raise RpcError(Status.UNIMPLEMENTED, f"unknown method {path[:MAX_SHOWN]}")
        return _open_call(stream, route, count, self._allowance)

    def _report(self, path: str, raised: Exception) -> Exception:
        """Tell of an error; returns what went wrong first."""
        error = _cause(raised)
        if log.isEnabledFor(logging.DEBUG):
            # Without what it came from: a text of the caller's own code may hold a secret.
            log.debug("! %s\n%s", path[:MAX_SHOWN], "".join(format_exception(raised, chain=False)).rstrip())
        if self._on_error is not None:
            self._on_error(path, error)
        return error


class Opened(NamedTuple):
    """A call that is about to be served, and the seconds that it may take; ``None`` for any number."""

    route: Route
    call: IncomingCall[Any, Any]
    seconds: float | None


async def _run(stream: Stream, opened: Opened) -> None:
    """Run the handler until it ends, its deadline passes or the peer resets the stream."""
    if opened.seconds == 0:
        raise expired()
    try:
        with anyio.move_on_after(opened.seconds) as deadline, anyio.CancelScope() as until_reset:
            if not opened.route.ends_itself:
                stream.raise_if_failed()
                stream.on_reset = until_reset.cancel
            with no_own_cancellation(f"the handler of {opened.route.path}"):
                await opened.route.handler(opened.call)
    finally:
        stream.on_reset = None
        opened.call.release()
    if until_reset.cancelled_caught:
        stream.raise_if_failed()
    if deadline.cancelled_caught:
        raise expired()


def expired() -> RpcError:
    """Say that a call has taken longer than its peer allows."""
    return RpcError(Status.DEADLINE_EXCEEDED, "deadline exceeded")


def _cause(error: Exception) -> Exception:
    """What went wrong first, in a handler that runs tasks of its own."""
    if isinstance(error, ExceptionGroup):
        cause = first_cause(error)
        return cause if isinstance(cause, Exception) else error
    return error


def status_of(error: Exception) -> RpcError:
    """What the peer is told of an exception: of one that is not meant for it the type alone."""
    if isinstance(error, RpcError):
        return error
    return RpcError(Status.INTERNAL, f"the client failed: {type(error).__name__}")


def _open_call(stream: Stream, route: Route, count: Callable[[Codecs], Codecs] | None, allowance: Allowance) -> Opened:
    """Read what the headers say."""
    encoding = _header(stream, b"grpc-encoding")
    if encoding not in (b"", b"identity"):
        raise RpcError(Status.UNIMPLEMENTED, "compressed messages are not accepted")
    value = _header(stream, b"grpc-timeout")
    metadata = Metadata(stream.headers)
    codecs = route.select(metadata) if count is None else count(route.select(metadata))
    call: IncomingCall[Any, Any] = IncomingCall(
        stream,
        method=route.path,
        metadata=metadata,
        request=codecs.request,
        response=codecs.response,
        allowance=allowance,
    )
    return Opened(route, call, parse_timeout(value) if value else None)


def _refusal(stream: Stream) -> bytes | None:
    """The HTTP status for a request that is not gRPC at all.

    Source: grpc/grpc:doc/PROTOCOL-HTTP2.md (Requests).
    """
    if _header(stream, b":method") != b"POST":
        return b"405"
    return None if is_grpc(_header(stream, b"content-type")) else b"415"


def _header(stream: Stream, name: bytes) -> bytes:
    return next((value for key, value in stream.headers if key == name), b"")
