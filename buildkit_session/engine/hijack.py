"""Takes over a connection to the Engine: an HTTP/1.1 upgrade, after which the bytes belong to another protocol.

Nothing is sent between the request and the Engine's ``101``: it drops what it had read by then. What follows the blank
line of the ``101`` belongs to the new protocol already, in the same segment or in later ones.

Source: moby/moby:client/hijack.go; RFC 9110, section 7.8.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import anyio
from anyio import to_thread

from buildkit_session.engine.address import UnixSocket
from buildkit_session.engine.faults import error_text, shortened, unreachable
from buildkit_session.engine.tls import client_context
from buildkit_session.errors import InputError, UpgradeRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from buildkit_session.engine.address import Address, Endpoint
    from buildkit_session.http2.connection import Connection

__all__ = ["hijack"]

MAX_ANSWER: Final = 64 * 1024
"""Bytes of the Engine's answer, head and error text, that are read."""

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
    request = _request(endpoint, path, headers)
    upgrade = _Upgrade(request)
    try:
        with anyio.fail_after(PATIENCE):
            transport = await _dial(endpoint, upgrade)
        head, rest = await _answer(transport, upgrade)
    except OSError as error:  # TimeoutError is one
        raise unreachable(endpoint, error) from error
    if (refusal := _refusal(endpoint, path, head, rest)) is not None:
        transport.abort()
        raise refusal
    connection = make_connection()
    transport.set_protocol(connection)
    connection.connection_made(transport)
    connection.feed(rest)
    transport.resume_reading()
    return connection


async def _answer(transport: asyncio.Transport, upgrade: _Upgrade) -> tuple[bytes, bytes]:
    """Wait for the answer; in the end, what there is of one must do."""
    try:
        with anyio.move_on_after(PATIENCE):
            await upgrade.answered.wait()
        return upgrade.answer()
    except BaseException:
        transport.abort()
        raise


async def _dial(endpoint: Endpoint, upgrade: _Upgrade) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    address = endpoint.address
    if isinstance(address, UnixSocket):
        transport, _ = await loop.create_unix_connection(lambda: upgrade, address.path)
    else:
        context = None if endpoint.tls is None else await to_thread.run_sync(client_context, endpoint.tls)
        transport, _ = await loop.create_connection(lambda: upgrade, address.host, address.port, ssl=context)
    return transport


def _request(endpoint: Endpoint, path: str, headers: Iterable[tuple[str, str]]) -> bytes:
    ours = [
        ("Host", _host(endpoint.address)),
        ("User-Agent", "buildkit-session"),
        ("Connection", "Upgrade"),
        ("Upgrade", "h2c"),
        ("Content-Length", "0"),
    ]
    taken = {name.lower() for name, _ in ours}
    users = [(name, value) for name, value in endpoint.headers.items() if name.lower() not in taken]
    lines = [f"POST {path} HTTP/1.1"]
    for name, value in [*ours, *users, *headers]:
        if not set("\r\n\0").isdisjoint(name + value):
            raise InputError(f"the header field {name!r} holds a line break or a NUL")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def _host(address: Address) -> str:
    if isinstance(address, UnixSocket):
        return "docker"  # means nothing, but an Engine refuses a request without it
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


class _Upgrade(asyncio.Protocol):
    """Sends the request and gathers the answer: its head, and what followed it."""

    def __init__(self, request: bytes) -> None:
        self.answered = anyio.Event()
        self._request = request
        self._received = bytearray()
        self._error: Exception | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # As asyncio's contract has it for stream protocols; those of uvloop do not inherit from it.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0 and _is_interim(bytes(self._received[: end + 4])):
            del self._received[: end + 4]
        if _is_whole(self._received, end + 4 if end >= 0 else 0) and self._transport is not None:
            # Until the next protocol takes over, nothing may be read: asyncio would hand it to this one.
            self._transport.pause_reading()
            self.answered.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = exc
        self.answered.set()

    def answer(self) -> tuple[bytes, bytes]:
        """The head, with its blank line if that arrived, and what followed it.

        Raises:
            OSError: the connection broke before there was anything.
        """
        if self._error is not None and not self._received:
            raise self._error
        head, blank, rest = bytes(self._received).partition(b"\r\n\r\n")
        return head + blank, rest


def _is_whole(received: bytearray, end: int) -> bool:
    """Whether an answer, whose head ends at ``end`` or (0) not yet, needs no more bytes to be understood.

    A refusal is whole with the text it announced; without a length, when the Engine hangs up or patience ends.
    """
    if not end:
        return len(received) > MAX_ANSWER
    head = bytes(received[:end])
    return _status(head) in (0, 101) or len(received) - end >= min(_content_length(head), MAX_ANSWER)


def _status(head: bytes) -> int:
    """The status code of an HTTP/1.x head, or 0 when it is something else or was cut off."""
    if not head.endswith(b"\r\n\r\n"):
        return 0
    parts = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or len(parts[1]) != 3 or not parts[1].isdigit():
        return 0
    return int(parts[1])


def _is_interim(head: bytes) -> bool:
    """Source: RFC 9110, section 15.2: any number of 1xx answers may come before the final one; 101 is final here."""
    return 100 <= _status(head) < 200 and _status(head) != 101


def _field(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def _content_length(head: bytes) -> int:
    with suppress(ValueError):
        return int(_field(head, b"content-length"))
    return MAX_ANSWER


def _refusal(endpoint: Endpoint, path: str, head: bytes, rest: bytes) -> UpgradeRefused | None:
    status = _status(head)
    if status == 101:
        protocol = _field(head, b"upgrade").decode("latin-1")
        if protocol.lower() == "h2c":
            return None
        return UpgradeRefused(
            f"the Engine at {endpoint} switched to {shortened(protocol)!r}, not to h2c", status=status
        )
    if status == 0:
        what = repr(head[:100]) if head else "nothing"
        return UpgradeRefused(f"the Engine at {endpoint} answered {what} instead of switching protocols on {path}")
    text = error_text(rest) or "no reason given"
    return UpgradeRefused(
        f"the Engine at {endpoint} did not switch protocols on {path}: {text} (HTTP {status}); "
        "is a proxy in between that does not pass upgrades on?",
        status=status,
    )
