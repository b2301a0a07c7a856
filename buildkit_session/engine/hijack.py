"""Takes over a connection to the Engine: an HTTP/1.1 upgrade, after which the bytes belong to another protocol.

Nothing is sent between the request and the Engine's ``101``: it drops what it had read by then. What follows the blank
line of the ``101`` belongs to the new protocol already, in the same segment or in later ones.

Source: moby/moby:client/hijack.go; RFC 9110, section 7.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from buildkit_session.engine.exchange import Answer, exchange, make_request
from buildkit_session.engine.faults import error_text, shortened, unreachable
from buildkit_session.errors import UpgradeRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from buildkit_session.engine.address import Endpoint
    from buildkit_session.http2.connection import Connection

__all__ = ["hijack"]

PATIENCE: Final = 10.0
"""Seconds the Engine has to switch protocols."""


async def hijack(
    endpoint: Endpoint, path: str, headers: Iterable[tuple[str, str]], make_connection: Callable[[], Connection]
) -> Connection:
    """Ask the Engine to switch a new connection to HTTP/2 and hand it over.

    Args:
        endpoint: the Engine.
        path: full path of the call, such as ``/v1.41/session``.
        headers: further header fields; repeated names are sent as lines of their own.
        make_connection: makes the protocol that takes the connection over, once the Engine has agreed.

    Raises:
        EngineUnreachable: no connection could be made.
        UpgradeRefused: the Engine answered something other than ``101``, or nothing in ``PATIENCE`` seconds.
        InputError: a header field holds a line break.
    """
    fields = [("Connection", "Upgrade"), ("Upgrade", "h2c"), *headers]
    request = make_request(endpoint, f"POST {path}", fields)
    try:
        transport, answer = await exchange(endpoint, request, head_only={101}, patience=PATIENCE)
    except OSError as error:
        raise unreachable(endpoint, error) from error
    if (refusal := _refusal(endpoint, path, answer)) is not None:
        transport.abort()
        raise refusal
    connection = make_connection()
    transport.set_protocol(connection)
    connection.connection_made(transport)
    connection.feed(answer.rest)
    transport.resume_reading()
    return connection


def _refusal(endpoint: Endpoint, path: str, answer: Answer) -> UpgradeRefused | None:
    status = answer.status
    if status == 101:
        protocol = answer.field("upgrade")
        if protocol.lower() == "h2c":
            return None
        return UpgradeRefused(
            f"the Engine at {endpoint} switched to {shortened(protocol)!r}, not to h2c", status=status
        )
    if status == 0:
        what = repr(answer.head[:100]) if answer.head else "nothing"
        return UpgradeRefused(f"the Engine at {endpoint} answered {what} instead of switching protocols on {path}")
    text = error_text(answer.body()) or "no reason given"
    return UpgradeRefused(
        f"the Engine at {endpoint} did not switch protocols on {path}: {text} (HTTP {status}); "
        "is a proxy in between that does not pass upgrades on?",
        status=status,
    )
