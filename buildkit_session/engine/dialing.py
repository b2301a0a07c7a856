"""Opens connections to daemons: the one place that knows how each kind of address is reached.

Source: docker/cli:cli/connhelper (one connection each time), moby/buildkit:client/client.go (resolveDialer).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
from anyio import to_thread

from buildkit_session.engine.address import UnixSocket
from buildkit_session.engine.faults import unreachable
from buildkit_session.engine.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buildkit_session.engine.address import Endpoint

__all__ = ["PATIENCE", "dial"]

PATIENCE: Final = 10.0
"""Seconds that a connection may take to come about."""

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


async def dial(
    endpoint: Endpoint, make_protocol: Callable[[], _P], *, alpn: Sequence[str] = (), patience: float = PATIENCE
) -> tuple[asyncio.Transport, _P]:
    """Open a connection. A cancelled call leaves nothing behind.

    Args:
        endpoint: the daemon.
        make_protocol: makes the protocol of the connection, as for asyncio's ``create_connection``.
        alpn: protocols offered in a TLS handshake, the preferred one first; a peer that picks none is accepted.
        patience: seconds to wait.

    Raises:
        EngineUnreachable: no connection came about.
        InputError: the TLS files cannot be used.
    """
    try:
        with anyio.fail_after(patience):
            return await _connect(endpoint, make_protocol, alpn)
    except OSError as error:  # TimeoutError is one
        raise unreachable(endpoint, error) from error


async def _connect(
    endpoint: Endpoint, make_protocol: Callable[[], _P], alpn: Sequence[str]
) -> tuple[asyncio.Transport, _P]:
    loop = asyncio.get_running_loop()
    address = endpoint.address
    if isinstance(address, UnixSocket):
        return await loop.create_unix_connection(make_protocol, address.path)
    if endpoint.tls is None:
        return await loop.create_connection(make_protocol, address.host, address.port)
    context = await to_thread.run_sync(client_context, endpoint.tls, tuple(alpn))
    name = endpoint.tls.server_name or address.host
    return await loop.create_connection(make_protocol, address.host, address.port, ssl=context, server_hostname=name)
