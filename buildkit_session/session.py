"""One session: what a client offers to a daemon while builds run.

Owns the session's id and shared key, its routes, and the life of the connection they are served on. The daemon learns
of the methods by header fields, which are made from the router's own table.

Source: moby/buildkit:session/session.go; moby/moby:client/hijack.go.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from buildkit_session.errors import ConnectionClosed, RpcError, SessionError, StreamReset, TransferError
from buildkit_session.fsutil.packets import PeerGaveUp
from buildkit_session.grpc.router import Router
from buildkit_session.grpc.server import Server
from buildkit_session.http2.connection import Connection
from buildkit_session.printable import printable
from buildkit_session.services.deferred import Deferred
from buildkit_session.supervision import supervised

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from anyio.abc import TaskGroup

    from buildkit_session.grpc.interception import Interceptor
    from buildkit_session.services import Service

    Dial: TypeAlias = Callable[[list[tuple[str, str]], Callable[[], Connection]], Awaitable[Connection]]
    """Opens a connection to the daemon: given the session's header fields and a function that makes the protocol."""

__all__ = ["Session", "shared_key"]

MACHINE_ID = Path("/etc/machine-id")

MAX_FAILURES: Final = 100
"""Faults that are remembered: the first ones tell the cause, and a daemon may make calls fail for hours."""

_PACKAGE: Final = f"{__name__.partition('.')[0]}."

_HEALTH: Final = tuple(f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch"))

# How a call ends when the daemon gives it up, goes away, or is answered in its own terms: the cause is elsewhere.
_NOT_OURS = (ConnectionClosed, PeerGaveUp, RpcError, StreamReset)


class Session:
    """A set of services under an id that the daemon knows.

    An id is used once: the daemon may hold on to one for seconds after its connection has gone.

    Args:
        services: what is served; :class:`~buildkit_session.services.health.Health` always is, besides.
        shared_key: names the daemon's cached copy of the directories; see :func:`shared_key`.
        name: for people; old daemons show it.
        interceptors: what every call goes through, the outermost first.

    Raises:
        InputError: two services have the same method.

    Attributes:
        id: goes into the build request.
        failures: the faults that began on this side, or that it found, in order, the first ``MAX_FAILURES``: the path
            of the method and the exception. Calls that failed by what the daemon did or asked for are not among them.
    """

    def __init__(
        self,
        services: Iterable[Service],
        *,
        shared_key: str = "",
        name: str = "",
        interceptors: Iterable[Interceptor] = (),
    ) -> None:
        self.id = secrets.token_hex(16)
        self.failures: list[tuple[str, Exception]] = []
        self._shared_key = shared_key
        self._name = name
        self._interceptors = tuple(interceptors)
        self._router = Router()
        for service in (Deferred(_HEALTH, self._load_health), *services):
            for route in service.routes():
                self._router.add(route)

    def __repr__(self) -> str:
        return f"<Session {self.id} methods={len(self._router.methods)}>"

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The header fields that register the session; every served method has a line of its own."""
        fields = [("X-Docker-Expose-Session-Uuid", self.id), ("X-Docker-Expose-Session-Sharedkey", self._shared_key)]
        # For people only, so not worth the refusal that a control character in a header field earns.
        if self._name and self._name.isprintable():
            fields.append(("X-Docker-Expose-Session-Name", self._name))
        return fields + [("X-Docker-Expose-Session-Grpc-Method", method) for method in self._router.methods]

    @property
    def own_failure(self) -> Exception | None:
        """The first fault that began on this side, or that this side found: the likely cause of a failed build."""
        found = (_own_cause(error) for _, error in self.failures)
        return next((error for error in found if error is not None), None)

    def failure_behind(self, text: str) -> Exception | None:
        """The likely cause of what the daemon says of a build that has failed: as :attr:`own_failure`.

        But what the daemon was told in its own terms, it may have got over: a cache that is damaged is done without. So
        that counts only if it is repeated in ``text``.
        """
        for _, error in self.failures:
            cause = _own_cause(error)
            if cause is not None and (not isinstance(error, RpcError) or error.message in text):
                return cause
        return None

    @asynccontextmanager
    async def serving(self, dial: Dial) -> AsyncIterator[Connection]:
        """Connect and serve until the block is left; then GOAWAY is said and calls that still run are cancelled.

        Args:
            dial: opens the connection. Serving begins with its first byte.

        Raises:
            SessionError: whatever ``dial`` raises. What the block raises passes unchanged. The loss of the connection
                is not raised but seen in ``Connection.closed``.
        """
        async with supervised() as calls:
            server = self._server(calls)
            connection = await dial(self.headers, lambda: Connection(server.accept))
            try:
                yield connection
            finally:
                connection.close()
                calls.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await connection.closed.wait()

    def _server(self, calls: TaskGroup) -> Server:
        if not self._interceptors:
            return Server(self._router, calls, on_error=self._failed)
        from buildkit_session.grpc.interception import InterceptingServer  # noqa: PLC0415 - few sessions have any

        return InterceptingServer(
            self._router, calls, interceptors=self._interceptors, session=self.id, on_error=self._failed
        )

    def _load_health(self) -> Service:
        from buildkit_session.services.health import Health  # noqa: PLC0415 - the daemon asks after a second or more

        return Health(path.split("/")[1] for path in self._router.methods)

    def _failed(self, path: str, error: Exception) -> None:
        # Those of the daemon's making would crowd the others out.
        if len(self.failures) < MAX_FAILURES and _own_cause(error) is not None:
            _forget_frames(error)
            self.failures.append((path, error))
            if not isinstance(error, SessionError):  # of code of the caller's: a service or an interceptor
                error.add_note(f"raised as the daemon called {printable(path[:200])}")


def _own_cause(error: Exception) -> Exception | None:
    """A failure if it began on this side; some are told to the daemon in its own terms."""
    if isinstance(error, RpcError) and isinstance(error.__cause__, TransferError):
        return error.__cause__
    return None if isinstance(error, _NOT_OURS) else error


def _forget_frames(error: BaseException) -> None:
    """Let go of what this package held when an error passed: a message of the daemon's may have megabytes."""
    chain: list[BaseException | None] = [error]
    seen: set[int] = set()
    while chain:
        if (one := chain.pop()) is None or id(one) in seen:
            continue
        seen.add(id(one))
        chain += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
        passed = one.__traceback__
        while passed is not None and passed.tb_frame.f_globals.get("__name__", "").startswith(_PACKAGE):
            passed = passed.tb_next
        one.__traceback__ = passed


def shared_key(directory: Path) -> str:
    """A key for the daemon's cached copy of ``directory``: stable for this machine and path, and nobody else's.

    With a key that several directories share, the daemon would take files of equal size, time and mode for the same.

    Source: moby/buildkit:source/local/source.go.
    """
    try:
        machine = MACHINE_ID.read_text().strip()
    except OSError:
        machine = socket.gethostname()
    digest = hashlib.sha256(f"{machine}\0{directory.absolute()}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]
