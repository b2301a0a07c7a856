"""What a Docker Engine is asked by HTTP: ping, version negotiation, ``POST /build`` and its cancellation, other calls.

Source: moby/moby:api/swagger.yaml, moby/moby:client/ping.go, moby/moby:api/server/router/build/build_routes.go.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, Final, Self

import anyio

from buildkit_session.engine.build_stream import BuildStream
from buildkit_session.engine.exchange import base_path
from buildkit_session.engine.hijack import hijack
from buildkit_session.engine.info import EngineInfo
from buildkit_session.engine.json_values import as_object
from buildkit_session.engine.ping import ping
from buildkit_session.errors import EngineError, EngineUnreachable, LocalProtocolError, SessionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
    from types import TracebackType

    from buildkit_session.engine.address import Endpoint
    from buildkit_session.engine.build_params import BuildParams
    from buildkit_session.engine.rest import Rest, RestAnswer
    from buildkit_session.http2.connection import Connection

__all__ = ["EngineClient", "EngineInfo"]

# A build being abandoned waits this long, in seconds, for the Engine to take the cancellation.
_CANCEL_PATIENCE: Final = 3.0


class EngineClient:
    """Talks HTTP to one Engine; an async context manager.

    Every method may raise ``EngineUnreachable`` (no connection), ``ConnectionClosed`` (it broke off) and
    ``EngineError`` (the Engine refused; ``status`` holds the HTTP status). A cancelled call leaves nothing behind
    but what its docstring says.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float = 10.0, info: EngineInfo | None = None) -> None:
        """Prepare a client; nothing is opened before ``async with``.

        Args:
            endpoint: the Engine, from ``find_endpoint``.
            timeout: seconds to wait for a connection, and for the answer of a short call. Builds take as long as
                they take.
            info: the answer to a ping, where somebody has asked already.
        """
        self.endpoint = endpoint
        self._timeout = timeout
        self._entered = False
        self._rest: Rest | None = None
        self._info = info

    async def __aenter__(self) -> Self:
        if self._entered:
            raise LocalProtocolError("the client has been entered already; make another one with connect()")
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what is open. Builds that still run are cancelled by their own context, not here."""
        self._entered = False
        rest, self._rest = self._rest, None
        if rest is not None:
            await rest.aclose()

    async def ping(self) -> EngineInfo:
        """Ask the Engine what it is, and settle on an API version. The first answer is kept.

        Raises:
            UnsupportedError: the Engine or the pinned version is older than the API this library needs.
        """
        self._check_entered()
        if self._info is None:
            self._info = await ping(self.endpoint, patience=self._timeout)
        return self._info

    async def path(self, name: str) -> str:
        """Return the full path of an API call: ``/session`` becomes ``/v1.41/session``, below the address's base."""
        info = await self.ping()
        return f"{base_path(self.endpoint.address)}/v{info.api_version}{name}"

    async def dial_session(
        self, headers: list[tuple[str, str]], make_connection: Callable[[], Connection]
    ) -> Connection:
        """Register a session and return its connection: see :meth:`Session.serving`."""
        return await hijack(self.endpoint, await self.path("/session"), headers, make_connection)

    @asynccontextmanager
    async def build(self, params: BuildParams, *, body: bytes = b"") -> AsyncIterator[BuildStream]:
        """Start a build and follow it.

        Use it as ``async with client.build(params) as events: async for event in events: ...``. The session that
        ``params`` names must be served while this waits: the Engine answers once it has progress to report.

        Leaving the block before the build has ended, by cancellation, an exception or ``break``, cancels the
        daemon's build; that takes at most a few seconds and hides no exception.

        Args:
            params: what to build.
            body: a tar archive or a bare Dockerfile, used when ``params.remote`` is empty.

        Raises:
            EngineError: the Engine refused the build, with its text.
        """
        path = await self.path("/build")
        stream: BuildStream | None = None
        refused = False
        answer: RestAnswer | None = None
        try:
            answer = await self._http().send("POST", path, params.query(), body)
            if answer.status != 200:
                refused = True
                raise await answer.refusal()
            stream = BuildStream(answer)
            yield stream
        except EngineUnreachable:
            refused = True  # there is nobody to cancel it at
            raise
        finally:
            if answer is not None:
                answer.close()
            if not refused and not (stream is not None and stream.finished):
                await self._abandon(params.build_id)

    async def cancel(self, build_id: str) -> None:
        """Cancel a build by its ``build_id``. The Engine accepts unknown ids, so a build that has ended is no error."""
        answer = await self._http().call("POST", await self.path("/build/cancel"), {"id": build_id})
        with closing(answer):
            if answer.status != 200:
                raise await answer.refusal()

    async def send(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] = b"",
    ) -> RestAnswer:
        """Make a call that may take long, and wait for the head of its answer, which the caller closes.

        Args:
            method: such as ``POST``.
            name: the path below the version, such as ``/images/load``.
            query: names and values.
            headers: further header fields.
            body: a tar archive, whole or in pieces.
        """
        return await self._http().send(method, await self.path(name), query or "", body, headers=headers)

    async def get(self, name: str, *, headers: Mapping[str, str] | None = None) -> Mapping[str, object]:
        """Make a short call for an object; names and arguments as for :meth:`send`.

        Raises:
            EngineError: the Engine refused, or the answer is no JSON object.
        """
        answer = await self._http().call("GET", await self.path(name), headers=headers)
        with closing(answer):
            if answer.status != 200:
                raise await answer.refusal()
            body = await answer.read_all()
        try:
            return as_object(json.loads(body))
        except (ValueError, TypeError, RecursionError) as error:
            raise EngineError(f"the Engine at {self.endpoint} answered GET {name} without a JSON object") from error

    async def _abandon(self, build_id: str) -> None:
        # The closed connection tells the Engine already; this also reaches one behind a proxy that keeps it open.
        with anyio.move_on_after(_CANCEL_PATIENCE, shield=True), suppress(SessionError):
            await self.cancel(build_id)

    def _http(self) -> Rest:
        self._check_entered()
        if self._rest is None:
            from buildkit_session.engine.rest import Rest  # noqa: PLC0415 - it loads aiohttp

            self._rest = Rest(self.endpoint, timeout=self._timeout)
        return self._rest

    def _check_entered(self) -> None:
        if not self._entered:
            msg = "the client works only inside its 'async with' block"
            raise LocalProtocolError(msg)
