"""The HTTP of long answers and bodies, by aiohttp; loaded when first used, as that takes longer than a small build.

Every request has a connection of its own: builds hold theirs for minutes, the short calls are few, and a pooled
connection that the Engine closed meanwhile would look like a fault.
"""

from __future__ import annotations

from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Final

import aiohttp
import anyio
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from buildkit_session.engine.address import TcpAddress
from buildkit_session.engine.dialing import dial, lead_time
from buildkit_session.engine.faults import broken_off, error_text, shortened, unreachable
from buildkit_session.errors import ConnectionClosed, EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterator, Mapping

    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace

    from buildkit_session.engine.address import Endpoint

__all__ = ["Rest", "RestAnswer"]

# The body of an error answer that is read, in bytes.
_MAX_ERROR_BODY: Final = 64 * 1024
# That of a short call.
_MAX_BODY: Final = 4 * 1024 * 1024


class Rest:
    """Sends requests to one Engine. Made inside a running event loop; to be closed."""

    def __init__(self, endpoint: Endpoint, *, timeout: float) -> None:
        """Prepare; nothing is opened yet.

        Args:
            endpoint: the Engine.
            timeout: seconds to wait for a connection, and for the answer of a short call.
        """
        self._endpoint = endpoint
        self._timeout = timeout
        self._http = aiohttp.ClientSession(
            connector=_Dialer(endpoint, timeout),
            headers=_common_headers(endpoint),
            skip_auto_headers=["Content-Type"],
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # the proxies of the environment are for the outside world
        )

    async def aclose(self) -> None:
        """Close what is open."""
        await self._http.close()

    async def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | str = "",
        body: bytes | AsyncIterable[bytes] = b"",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> RestAnswer:
        """Send a request and wait for the head of its answer, for ever.

        Args:
            method: such as ``POST``.
            path: the full path.
            query: encoded, or names and values.
            body: a tar archive, whole or in pieces, or nothing.
            headers: further header fields.

        Raises: as :func:`translated_faults`.
        """
        encoded = query if isinstance(query, str) else URL.build(query=query).raw_query_string
        url = URL(
            f"{_origin(self._endpoint)}{path}?{encoded}" if encoded else f"{_origin(self._endpoint)}{path}",
            encoded=True,
        )
        fields = {**({"Content-Type": "application/x-tar"} if body else {}), **(headers or {})}
        # aiohttp writes a stream piece by piece, bytes at one go.
        data = (BytesIO(body) if body else None) if isinstance(body, bytes) else body
        with translated_faults(self._endpoint):
            # A redirect would lead away from the address that the user chose.
            response = await self._http.request(method, url, data=data, headers=fields, allow_redirects=False)
        return RestAnswer(response, self._endpoint, self._timeout)

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | str = "",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> RestAnswer:
        """Send a short request; as :meth:`send`, but with a limit to the time it takes."""
        with translated_faults(self._endpoint), anyio.fail_after(self._timeout + lead_time(self._endpoint)):
            return await self.send(method, path, query, headers=headers)


class RestAnswer:
    """An answer whose body may be read: a ``ByteSource``."""

    def __init__(self, response: aiohttp.ClientResponse, endpoint: Endpoint, timeout: float) -> None:
        self.status = response.status
        self._response = response
        self._endpoint = endpoint
        self._timeout = timeout
        # Without either, the end of the connection is the end of the body, and a cut looks like success.
        self._delimited = "Content-Length" in response.headers or (
            response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        )

    async def receive(self) -> bytes:
        """Return the bytes that have arrived, at least one; ``b""`` at the end of the body."""
        with translated_faults(self._endpoint):
            data = await self._response.content.readany()
        if not data and not self._delimited:
            msg = f"the Engine at {self._endpoint} closed the connection without an end mark in its answer"
            raise ConnectionClosed(msg)
        return data

    async def read_all(self) -> bytes:
        """Return the whole body of the answer to a short call.

        Raises:
            EngineError: it is too long for one.
        """
        with translated_faults(self._endpoint), anyio.fail_after(self._timeout):
            body = await _read_at_most(self._response.content, _MAX_BODY)
        if len(body) >= _MAX_BODY:
            call = f"{self._response.method} {self._response.url.path}"
            raise EngineError(f"the Engine at {self._endpoint} answered {call} with {len(body)} bytes or more")
        return body

    async def refusal(self) -> EngineError:
        """Make the error for this answer out of the text in its body."""
        with translated_faults(self._endpoint), anyio.fail_after(self._timeout):
            body = await _read_at_most(self._response.content, _MAX_ERROR_BODY)
        text = error_text(body) or self._response.reason or "no reason given"
        call = f"{self._response.method} {self._response.url.path}"
        msg = f"the Engine at {self._endpoint} refused {call}: {text} (HTTP {self.status})"
        return EngineError(msg, status=self.status)

    def close(self) -> None:
        """Close the connection at once: over TLS a polite end waits 30 s for the farewell of a silent Engine."""
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        self._response.close()


class _Dialer(aiohttp.BaseConnector):
    """Gives aiohttp connections that this library opened."""

    def __init__(self, endpoint: Endpoint, patience: float) -> None:
        super().__init__(force_close=True, limit=0)
        self._endpoint = endpoint
        self._patience = patience

    async def _create_connection(
        self,
        req: ClientRequest,  # noqa: ARG002 - aiohttp's signature
        traces: list[Trace],  # noqa: ARG002
        timeout: aiohttp.ClientTimeout,  # noqa: ARG002, ASYNC109
    ) -> ResponseHandler:
        loop = self._loop
        _, protocol = await dial(self._endpoint, lambda: ResponseHandler(loop=loop), patience=self._patience)
        return protocol


@contextmanager
def translated_faults(endpoint: Endpoint) -> Iterator[None]:
    """Translate what aiohttp or a socket raises while talking to ``endpoint``.

    Some errors of aiohttp quote the whole URL, and the query of ``/build`` holds build arguments, where people put
    secrets: their text goes nowhere, and they are not chained.

    Raises:
        EngineUnreachable: no connection came about, or no answer in time.
        EngineError: whoever answers does not speak HTTP.
        ConnectionClosed: the connection broke off during a request or its answer.
    """
    try:
        yield
    except TimeoutError as exc:
        raise unreachable(endpoint, exc) from exc
    except aiohttp.ClientResponseError as exc:
        msg = f"what answers at {endpoint} does not speak HTTP as an Engine does: {shortened(exc.message)}"
        raise EngineError(msg) from None
    except (aiohttp.ClientError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError) as exc:
        raise broken_off(endpoint, exc) from exc
    except OSError as exc:
        raise unreachable(endpoint, exc) from exc


def _common_headers(endpoint: Endpoint) -> CIMultiDict[str]:
    headers = CIMultiDict(endpoint.headers)
    headers["User-Agent"] = "buildkit-session"
    headers["Accept-Encoding"] = "identity"  # progress must arrive as it happens, and nothing here decompresses
    return headers


def _origin(endpoint: Endpoint) -> str:
    """What URLs begin with. Only the Host header is made of it; TLS, where there is any, is part of the connection."""
    address = endpoint.address
    if not isinstance(address, TcpAddress):
        return "http://docker"  # an Engine refuses requests without a host
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{'http' if endpoint.tls is None else 'https'}://{host}:{address.port}"


async def _read_at_most(content: aiohttp.StreamReader, limit: int) -> bytes:
    body = bytearray()
    while len(body) < limit and (data := await content.read(limit - len(body))):
        body += data
    return bytes(body)
