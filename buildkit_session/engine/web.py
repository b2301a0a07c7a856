"""Requests to the outside world, by aiohttp; loaded when first used, as few builds make any.

The proxies of the environment are used, as Go's programs do. The passwords of a ``.netrc`` are not, as they would be if
aiohttp read the environment: where requests go is not this side's choice.

Source: golang/net:http/httpproxy/proxy.go.
"""

from __future__ import annotations

import errno
import socket
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from anyio import to_thread

from buildkit_session.services.token_fetch import Reply, is_link_local, is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["AiohttpWeb"]


class AiohttpWeb:
    """A :class:`~buildkit_session.services.token_fetch.Web`. Each request has a connection of its own."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, max_body: int
    ) -> Reply:
        """See :class:`~buildkit_session.services.token_fetch.Web`. The caller sets the time limit."""
        # In a thread: it takes half a second, in which the loop would do nothing else.
        await to_thread.run_sync(import_module, "aiohttp")
        import aiohttp  # noqa: PLC0415
        from yarl import URL  # noqa: PLC0415

        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(resolver=_resolver()),
                    timeout=aiohttp.ClientTimeout(total=None),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                ) as session,
                session.request(
                    method,
                    URL(url, encoded=True),
                    headers=dict(headers),
                    data=body,
                    allow_redirects=False,
                    proxy=_proxy(url),
                ) as answer,
            ):
                received = await _read(answer.content, max_body + 1)
                return Reply(answer.status, received, answer.headers.get("Location", ""))
        except (aiohttp.ClientError, ValueError) as error:
            # Its text may show the request; what the system says of a failed connection does not.
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ConnectionError(0, f"cannot talk to {urlsplit(url).hostname}: {reason}") from error


def _resolver() -> AbstractResolver:
    """Looks names up; what leads to a link-local address leads nowhere, such as the name ``2852039166``."""
    import aiohttp  # noqa: PLC0415 - as above

    class Resolver(aiohttp.ThreadedResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = [entry for entry in await super().resolve(host, port, family) if not is_link_local(entry["host"])]
            if not found:
                raise OSError(errno.EADDRNOTAVAIL, "it has link-local addresses only")
            return found

    return Resolver()


def _proxy(url: str) -> str | None:
    """The proxy for a URL, if the environment names one; none for this machine itself."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if not proxy or is_loopback(parts.netloc) or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes:
    received = bytearray()
    while len(received) < limit and (piece := await content.read(limit - len(received))):
        received += piece
    return bytes(received)
