"""Opens connections to daemons: the one place that knows how each kind of address is reached.

Source: docker/cli:cli/connhelper (one connection each time), moby/buildkit:client/client.go (resolveDialer).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
from anyio import to_thread

from buildkit_session.engine.address import ContainerAddress, TcpAddress, UnixSocket
from buildkit_session.engine.commands import command_for
from buildkit_session.engine.faults import unreachable
from buildkit_session.engine.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buildkit_session.engine.address import Endpoint, TlsFiles

__all__ = ["PATIENCE", "dial", "lead_time"]

PATIENCE: Final = 10.0
"""Seconds that a connection may take to come about."""

# Above the 30 seconds that ssh is given to connect (docker/cli:cli/connhelper/connhelper.go).
_PROGRAM_PATIENCE: Final = 35.0

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


async def dial(
    endpoint: Endpoint, make_protocol: Callable[[], _P], *, alpn: Sequence[str] = (), patience: float = PATIENCE
) -> tuple[asyncio.Transport, _P]:
    """Open a connection. A cancelled call leaves nothing behind.

    Args:
        endpoint: the daemon.
        make_protocol: makes the protocol of the connection, as for asyncio's ``create_connection``.
        alpn: protocols offered in a TLS handshake, the preferred one first; a peer that picks none is accepted.
        patience: seconds to wait, beside the time that programs on the way need.

    Raises:
        EngineUnreachable: no connection came about.
        InputError: the TLS files cannot be used.
    """
    try:
        with anyio.fail_after(patience + lead_time(endpoint)):
            return await _connect(endpoint, make_protocol, alpn)
    except OSError as error:  # TimeoutError is one
        raise unreachable(endpoint, error) from error


def lead_time(endpoint: Endpoint) -> float:
    """Seconds that may go by between the start of a connection and its first byte, because of what lies in between."""
    if endpoint.via is not None:
        return lead_time(endpoint.via)
    return 0.0 if isinstance(endpoint.address, UnixSocket | TcpAddress) else _PROGRAM_PATIENCE


async def _connect(
    endpoint: Endpoint, make_protocol: Callable[[], _P], alpn: Sequence[str]
) -> tuple[asyncio.Transport, _P]:
    address = endpoint.address
    if isinstance(address, UnixSocket):
        return await asyncio.get_running_loop().create_unix_connection(make_protocol, address.path)
    if isinstance(address, TcpAddress):
        return await _connect_tcp(address, endpoint.tls, make_protocol, alpn)
    if isinstance(address, ContainerAddress) and address.program == "docker":
        # Here, as it dials in its turn: the Engine that runs the container.
        from buildkit_session.engine.exec_transport import run_in_container  # noqa: PLC0415

        return await run_in_container(endpoint, make_protocol)
    from buildkit_session.engine.process_transport import run  # noqa: PLC0415 - few need it

    return await run(command_for(address, buildkitd=endpoint.is_buildkitd), make_protocol)


async def _connect_tcp(
    address: TcpAddress, tls: TlsFiles | None, make_protocol: Callable[[], _P], alpn: Sequence[str]
) -> tuple[asyncio.Transport, _P]:
    loop = asyncio.get_running_loop()
    if tls is None:
        return await loop.create_connection(make_protocol, address.host, address.port)
    context = await to_thread.run_sync(client_context, tls, tuple(alpn))
    name = tls.server_name or address.host
    return await loop.create_connection(make_protocol, address.host, address.port, ssl=context, server_hostname=name)
