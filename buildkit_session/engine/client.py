"""The REST side of a Docker Engine: ping, version negotiation, ``POST /build`` and its cancellation.

Every request has a connection of its own: builds hold theirs for minutes, the short calls are few, and a pooled
connection that the Engine closed meanwhile would look like a fault.

Source: moby/moby:api/swagger.yaml, moby/moby:client/ping.go, moby/moby:api/server/router/build/build_routes.go.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final, Self

import aiohttp
import anyio
import anyio.to_thread
from multidict import CIMultiDict
from yarl import URL

from buildkit_session.engine.address import UnixSocket
from buildkit_session.engine.api_version import ApiVersion
from buildkit_session.engine.build_stream import BuildStream
from buildkit_session.engine.faults import error_text, shortened, translated_faults
from buildkit_session.engine.tls import client_context
from buildkit_session.errors import (
    ConnectionClosed,
    EngineError,
    EngineUnreachable,
    LocalProtocolError,
    SessionError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from buildkit_session.engine.address import Endpoint
    from buildkit_session.engine.build_params import BuildParams

__all__ = ["EngineClient", "EngineInfo"]

# The newest API this client was written against, and the oldest that knows the build parameter "outputs".
NEWEST_API: Final = ApiVersion(1, 51)
OLDEST_API: Final = ApiVersion(1, 40)
# What an Engine speaks that does not say (moby/moby:client/client.go, fallbackAPIVersion).
_UNSAID_API: Final = ApiVersion(1, 24)

# The body of an error answer that is read, in bytes.
_MAX_ERROR_BODY: Final = 64 * 1024
# A build being abandoned waits this long, in seconds, for the Engine to take the cancellation.
_CANCEL_PATIENCE: Final = 3.0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an Engine says about itself.

    Attributes:
        api_version: spoken from now on; part of every path.
        newest_api: the newest version the Engine knows.
        builder: the builder it recommends: ``2`` is BuildKit; empty when it says nothing (20.10).
        os_type: ``linux`` or ``windows``.
        server: product and version, such as ``Docker/28.5.2 (linux)``.
        experimental: whether experimental features are on.
    """

    api_version: ApiVersion
    newest_api: ApiVersion
    builder: str
    os_type: str
    server: str
    experimental: bool


class EngineClient:
    """Talks HTTP to one Engine; an async context manager.

    Every method may raise ``EngineUnreachable`` (no connection), ``ConnectionClosed`` (it broke off) and
    ``EngineError`` (the Engine refused; ``status`` holds the HTTP status). A cancelled call leaves nothing behind
    but what its docstring says.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float = 10.0) -> None:
        """Prepare a client; nothing is opened before ``async with``.

        Args:
            endpoint: the Engine, from ``find_endpoint``.
            timeout: seconds to wait for a connection, and for the answer of a short call. Builds take as long as
                they take.
        """
        self.endpoint = endpoint
        self._timeout = timeout
        self._http: aiohttp.ClientSession | None = None
        self._info: EngineInfo | None = None

    async def __aenter__(self) -> Self:
        if self._http is not None:
            raise LocalProtocolError("the client has been entered already; make another one with connect()")
        self._http = aiohttp.ClientSession(
            connector=await _connector(self.endpoint),
            headers=_common_headers(self.endpoint),
            skip_auto_headers=["Content-Type"],
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # the proxies of the environment are for the outside world
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what is open. Builds that still run are cancelled by their own context, not here."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def ping(self) -> EngineInfo:
        """Ask the Engine what it is, and settle on an API version. The first answer is kept.

        Raises:
            UnsupportedError: the Engine or the pinned version is older than the API this library needs.
        """
        if self._info is None:
            self._info = await self._ask()
        return self._info

    async def path(self, name: str) -> str:
        """Return the full path of an API call: ``/session`` becomes ``/v1.41/session``, below the address's base."""
        info = await self.ping()
        return f"{self._base}/v{info.api_version}{name}"

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
        response: aiohttp.ClientResponse | None = None
        try:
            with translated_faults(self.endpoint):
                response = await self._request("POST", path, params.query(), body)
            if response.status != 200:
                refused = True
                raise await self._refusal(response)
            stream = BuildStream(_Answer(response, self.endpoint))
            yield stream
        except EngineUnreachable:
            refused = True  # there is nobody to cancel it at
            raise
        finally:
            if response is not None:
                _hang_up(response)
            if not refused and not (stream is not None and stream.finished):
                await self._abandon(params.build_id)

    async def cancel(self, build_id: str) -> None:
        """Cancel a build by its ``build_id``. The Engine accepts unknown ids, so a build that has ended is no error."""
        query = URL.build(query={"id": build_id}).raw_query_string
        response = await self._short("POST", await self.path("/build/cancel"), query)
        with closing(response):
            if response.status != 200:
                raise await self._refusal(response)

    async def _abandon(self, build_id: str) -> None:
        # The closed connection tells the Engine already; this also reaches one behind a proxy that keeps it open.
        with anyio.move_on_after(_CANCEL_PATIENCE, shield=True), suppress(SessionError):
            await self.cancel(build_id)

    async def _ask(self) -> EngineInfo:
        for method in ("HEAD", "GET"):  # proxies and old Engines refuse HEAD
            with closing(await self._short(method, f"{self._base}/_ping")) as response:
                if response.status == 200:
                    return _read_info(response, self.endpoint)
                refusal = await self._refusal(response)
        raise refusal

    async def _short(self, method: str, path: str, query: str = "") -> aiohttp.ClientResponse:
        with translated_faults(self.endpoint), anyio.fail_after(self._timeout):
            return await self._request(method, path, query)

    async def _request(self, method: str, path: str, query: str = "", body: bytes = b"") -> aiohttp.ClientResponse:
        if self._http is None:
            msg = "the client works only inside its 'async with' block"
            raise LocalProtocolError(msg)
        url = URL(f"{self._origin}{path}?{query}" if query else f"{self._origin}{path}", encoded=True)
        headers = {"Content-Type": "application/x-tar"} if body else {}
        data = BytesIO(body) if body else None  # aiohttp writes a stream piece by piece, bytes at one go
        # A redirect would lead away from the address that the user chose.
        return await self._http.request(method, url, data=data, headers=headers, allow_redirects=False)

    async def _refusal(self, response: aiohttp.ClientResponse) -> EngineError:
        with translated_faults(self.endpoint), anyio.fail_after(self._timeout):
            body = await _read_at_most(response.content, _MAX_ERROR_BODY)
        text = error_text(body) or response.reason or "no reason given"
        call = f"{response.method} {response.url.path}"
        msg = f"the Engine at {self.endpoint} refused {call}: {text} (HTTP {response.status})"
        return EngineError(msg, status=response.status)

    @property
    def _base(self) -> str:
        return "" if isinstance(self.endpoint.address, UnixSocket) else self.endpoint.address.base

    @property
    def _origin(self) -> str:
        address = self.endpoint.address
        if isinstance(address, UnixSocket):
            return "http://docker"  # only fills the Host header; an Engine refuses requests without one
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{'http' if self.endpoint.tls is None else 'https'}://{host}:{address.port}"


class _Answer:
    """The body of a build's answer as a ``ByteSource``."""

    def __init__(self, response: aiohttp.ClientResponse, endpoint: Endpoint) -> None:
        self._content = response.content
        self._endpoint = endpoint
        # Without either, the end of the connection is the end of the body, and a cut looks like success.
        self._delimited = "Content-Length" in response.headers or (
            response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        )

    async def receive(self) -> bytes:
        with translated_faults(self._endpoint):
            data = await self._content.readany()
        if not data and not self._delimited:
            msg = f"the Engine at {self._endpoint} closed the connection without an end mark in its answer"
            raise ConnectionClosed(msg)
        return data


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """Close the connection at once: over TLS a polite end waits 30 s for the farewell of an Engine that is silent."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


def _common_headers(endpoint: Endpoint) -> CIMultiDict[str]:
    headers = CIMultiDict(endpoint.headers)
    headers["User-Agent"] = "buildkit-session"
    headers["Accept-Encoding"] = "identity"  # progress must arrive as it happens, and nothing here decompresses
    return headers


async def _connector(endpoint: Endpoint) -> aiohttp.BaseConnector:
    if isinstance(endpoint.address, UnixSocket):
        return aiohttp.UnixConnector(endpoint.address.path, force_close=True, limit=0)
    if endpoint.tls is None:
        return aiohttp.TCPConnector(force_close=True, limit=0)
    context = await anyio.to_thread.run_sync(client_context, endpoint.tls)
    return aiohttp.TCPConnector(ssl=context, force_close=True, limit=0)


def _read_info(response: aiohttp.ClientResponse, endpoint: Endpoint) -> EngineInfo:
    headers = response.headers
    server = shortened(headers.get("Server", ""), limit=200)
    said = headers.get("Api-Version", "")
    if not said and not server.startswith("Docker/"):
        msg = f"what answers at {endpoint} is an HTTP server but no Docker Engine (Server: {server or 'not said'})"
        raise EngineError(msg, status=response.status)
    try:
        newest = ApiVersion.parse(said) if said else _UNSAID_API
    except ValueError as exc:
        msg = f"the Engine at {endpoint} names its API version in an unknown way: {exc}"
        raise EngineError(msg, status=response.status) from exc
    return EngineInfo(
        api_version=_negotiated(newest, server, endpoint),
        newest_api=newest,
        builder=headers.get("Builder-Version", ""),
        os_type=headers.get("Ostype", ""),
        server=server,
        experimental=headers.get("Docker-Experimental", "") == "true",
    )


def _negotiated(newest: ApiVersion, server: str, endpoint: Endpoint) -> ApiVersion:
    pinned = endpoint.api_version
    chosen = pinned or min(NEWEST_API, newest)
    if chosen < OLDEST_API:
        found = f"DOCKER_API_VERSION asks for {pinned}" if pinned else f"{server or 'the Engine'} speaks {newest}"
        msg = f"the Docker Engine API {OLDEST_API} (Engine 19.03) or newer is needed; {found} at {endpoint}"
        raise UnsupportedError(msg)
    return chosen


async def _read_at_most(content: aiohttp.StreamReader, limit: int) -> bytes:
    body = bytearray()
    while len(body) < limit and (data := await content.read(limit - len(body))):
        body += data
    return bytes(body)
