"""``moby.buildkit.v1.frontend.LLBBridge``: builds whose result this side makes, as a frontend does.

A ``Solve`` of the Control API that names neither a frontend nor a graph waits, without limit, for a caller of the
bridge who knows the name of the build. He solves graphs and frontends, looks into what came of them, and returns the
result of the build, or an error. Only this way gives the answer of a frontend to anything but a build, and the files of
a result one by one.

Source: moby/buildkit:frontend/gateway/pb/gateway.proto, frontend/gateway/grpcclient/client.go,
control/gateway/gateway.go.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from buildkit_session.engine.solving import solving
from buildkit_session.errors import RemoteProtocolError, RpcError, SessionError
from buildkit_session.grpc.details import read_details
from buildkit_session.grpc.status import Status
from buildkit_session.messages.google import rpc
from buildkit_session.messages.google.protobuf import Any
from buildkit_session.messages.moby.buildkit.v1 import frontend
from buildkit_session.supervision import supervised

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import betterproto2

    from buildkit_session.engine.daemon import Link
    from buildkit_session.engine.solving import SolveStream
    from buildkit_session.grpc.channel import Channel
    from buildkit_session.messages.moby.buildkit import v1

    Work: TypeAlias = Callable[["Gateway"], Awaitable[frontend.Result]]
    """Makes the result of a build."""

__all__ = ["Gateway", "gateway_build", "only_ref"]

PATIENCE: Final = 30.0
"""Seconds for the answer to a question that takes the daemon no work."""

_BUILD_ID: Final = "buildkit-controlapi-buildid"

_Answer = TypeVar("_Answer", bound="betterproto2.Message")


class Gateway:
    """The methods of the bridge, for one build.

    Every method raises ``RpcError`` for a status other than OK, with the details that the daemon sent, and
    ``ConnectionClosed`` when the connection ends first. A cancelled call is cancelled in the daemon too.

    Args:
        channel: any connection to the daemon.
        ref: the name of a build that waits for this, or will within three seconds.
    """

    def __init__(self, channel: Channel, ref: str) -> None:
        self.ref = ref
        self._channel = channel

    def __repr__(self) -> str:
        return f"<Gateway of build {self.ref}>"

    async def ping(self) -> frontend.PongResponse:
        """Return what the daemon can do."""
        return await self._ask("Ping", frontend.PingRequest(), frontend.PongResponse, timeout=PATIENCE)

    async def solve(self, request: frontend.SolveRequest) -> frontend.Result:
        """Solve a graph, or let a frontend make one. Steps run when ``request.evaluate`` is set, or when needed.

        Raises:
            RemoteProtocolError: the daemon answered without a result.
        """
        request.allow_result_return = request.allow_result_array_ref = True
        answer = await self._ask("Solve", request, frontend.SolveResponse)
        if answer.result is None:
            raise RemoteProtocolError("the daemon solved a part of the build and sent no result")
        return answer.result

    async def return_(self, result: frontend.Result) -> None:
        """End the build with a result, whose exporters run then."""
        await self._ask("Return", frontend.ReturnRequest(result=result), frontend.ReturnResponse)

    async def return_error(self, error: SessionError) -> None:
        """Fail the build with an error; what the daemon said in detail about it stays with it."""
        await self._ask("Return", frontend.ReturnRequest(error=_status_of(error)), frontend.ReturnResponse)

    async def read_file(self, ref: str, path: str, *, offset: int = 0, length: int = 0) -> bytes:
        """Read a file of a result.

        Args:
            ref: as in a result of :meth:`solve`.
            path: of the file.
            offset: of the first byte.
            length: the most bytes that are read; 0 for all.
        """
        part = frontend.FileRange(offset, length) if offset or length else None
        request = frontend.ReadFileRequest(ref=ref, file_path=path, range=part)
        return (await self._ask("ReadFile", request, frontend.ReadFileResponse)).data

    async def _ask(
        self,
        method: str,
        request: betterproto2.Message,
        answer: type[_Answer],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a deadline that the server is told as well
    ) -> _Answer:
        path = f"/moby.buildkit.v1.frontend.LLBBridge/{method}"
        return await self._channel.unary(path, request, answer, metadata=[(_BUILD_ID, self.ref)], timeout=timeout)


@asynccontextmanager
async def gateway_build(link: Link, request: v1.SolveRequest, work: Work) -> AsyncIterator[SolveStream]:
    """Start a build whose result ``work`` makes, and follow it as :func:`~.solving.solving` does.

    However ``work`` ends, so does the build: with its result, or with its error. Leaving the block before that cancels
    both.

    Args:
        link: to the daemon.
        request: the build, with a ``ref`` of its own, and without frontend and definition.
        work: is given the gateway, in a task of its own. It may raise any SessionError.
    """
    async with solving(link.control, request) as stream, supervised() as tasks:
        tasks.start_soon(_work, Gateway(link.channel, request.ref), work, stream)
        yield stream
        tasks.cancel_scope.cancel()


def only_ref(result: frontend.Result) -> str:
    """Return the id of the one tree that a result consists of, for the methods that look into it.

    Raises:
        RemoteProtocolError: it has none, or one for each platform.
    """
    ref = result.ref.id if result.ref is not None else result.ref_deprecated
    if not ref:
        raise RemoteProtocolError("the daemon's result is empty, or not a single tree of files")
    return ref


async def _work(gateway: Gateway, work: Work, stream: SolveStream) -> None:
    failure: SessionError | None = None
    try:
        try:
            result = await work(gateway)
        except SessionError as error:
            failure = error
            await gateway.return_error(error)
        else:
            await gateway.return_(result)
    except SessionError as error:
        # The build may have ended by itself, and says why; if it has not, it would wait for ever.
        stream.give_up(failure or error)


def _status_of(error: SessionError) -> rpc.Status:
    if not isinstance(error, RpcError):
        return rpc.Status(code=int(Status.UNKNOWN), message=str(error))
    details = [Any(detail.type_url, detail.value) for detail in read_details(error.details)]
    return rpc.Status(int(error.code), error.message, details)
