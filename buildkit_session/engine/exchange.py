"""One HTTP/1.1 exchange on a connection of its own: a short call, or an upgrade that others take over.

An HTTP library would cost a short command more time than its work takes. What is here is no more than that: one
request, one answer of bounded size, and no reuse.

Source: RFC 9112 (message format), RFC 9110, sections 7.8 (Upgrade) and 15.2 (interim answers).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import anyio

from buildkit_session.engine.address import TcpAddress
from buildkit_session.engine.dialing import PATIENCE, dial, lead_time
from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from buildkit_session.engine.address import Address, Endpoint

__all__ = ["Answer", "base_path", "exchange", "make_request"]

MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer, head and body, that are read."""

NO_BODIES: Final = range(1000)
"""Statuses whose answers have no body: all, where the method was HEAD."""


class Answer(NamedTuple):
    """What a server answered.

    Attributes:
        head: up to and with the blank line, or what there is of one.
        rest: what followed it.
        ended: whether the server has hung up.
    """

    head: bytes
    rest: bytes = b""
    ended: bool = False

    @property
    def status(self) -> int:
        """The status code of an HTTP/1.x head, or 0 when it is something else or was cut off."""
        return _status(self.head)

    def field(self, name: str) -> str:
        """The first header field of that name, or an empty text."""
        return _field(self.head, name.lower().encode()).decode("latin-1")

    def body(self) -> bytes:
        """The body, with its chunks put together; a body that was cut off ends there."""
        if self.field("transfer-encoding").lower() == "chunked":
            return _unchunked(self.rest)
        return self.rest[: _content_length(self.head)]


async def exchange(
    endpoint: Endpoint,
    request: bytes,
    *,
    head_only: Container[int] = (),
    alpn: Sequence[str] = (),
    patience: float = PATIENCE,
) -> tuple[asyncio.Transport, Answer]:
    """Open a connection, send a request and wait for its answer; in the end, what there is of one must do.

    The caller owns the transport: it is to be aborted, or to be given another protocol. Reading from it is paused.
    A cancelled call leaves nothing behind.

    Args:
        endpoint: the daemon.
        request: from :func:`make_request`.
        head_only: statuses whose answers have no body.
        alpn: as for :func:`dial`.
        patience: seconds for the connection, and again for the answer.

    Raises:
        EngineUnreachable: no connection came about.
        OSError: the connection broke before there was anything of an answer.
    """
    transport, asking = await dial(endpoint, lambda: _Asking(request, head_only), alpn=alpn, patience=patience)
    try:
        with anyio.move_on_after(patience + lead_time(endpoint)):
            await asking.answered.wait()
        return transport, asking.answer()
    except BaseException:
        transport.abort()
        raise


def make_request(endpoint: Endpoint, call: str, fields: Iterable[tuple[str, str]] = (), *, body: bytes = b"") -> bytes:
    """Write a request.

    Args:
        endpoint: whose address fills the Host field, and whose own header fields are sent unless ours are named alike.
        call: method and full path, such as ``POST /v1.41/session``.
        fields: further header fields; repeated names are sent as lines of their own.
        body: sent with its length.

    Raises:
        InputError: a header field holds a line break.
    """
    given = list(fields)
    ours = [("Host", _host(endpoint.address)), ("User-Agent", "buildkit-session"), ("Content-Length", str(len(body)))]
    taken = {name.lower() for name, _ in [*ours, *given]}
    users = [(name, value) for name, value in endpoint.headers.items() if name.lower() not in taken]
    lines = [f"{call} HTTP/1.1"]
    for name, value in [*ours, *users, *given]:
        if not set("\r\n\0").isdisjoint(name + value):
            raise InputError(f"the header field {name!r} holds a line break or a NUL")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def base_path(address: Address) -> str:
    """Return what goes before the path of every call."""
    return address.base if isinstance(address, TcpAddress) else ""


def _host(address: Address) -> str:
    if not isinstance(address, TcpAddress):
        return "docker"  # means nothing, but an Engine refuses a request without it
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


class _Asking(asyncio.Protocol):
    """Sends the request and gathers the answer: its head, and what followed it."""

    def __init__(self, request: bytes, head_only: Container[int]) -> None:
        self.answered = anyio.Event()
        self._request = request
        self._head_only = head_only
        self._received = bytearray()
        self._ended = False
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
        if self._is_whole(end + 4 if end >= 0 else 0) and self._transport is not None:
            # Until the next protocol takes over, nothing may be read: asyncio would hand it to this one.
            self._transport.pause_reading()
            self.answered.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        self.answered.set()

    def _is_whole(self, end: int) -> bool:
        """Whether an answer, whose head ends at ``end`` or (0) not yet, needs no more bytes to be understood.

        A body is whole with the length it announced; without one, when the server hangs up or patience ends.
        """
        if not end:
            return len(self._received) > MAX_ANSWER or _is_binary(self._received)
        head = bytes(self._received[:end])
        status = _status(head)
        if status == 0 or status in self._head_only:
            return True
        return len(self._received) - end >= min(_content_length(head), MAX_ANSWER)

    def answer(self) -> Answer:
        """What there is of an answer.

        Raises:
            OSError: the connection broke before there was anything.
        """
        if self._error is not None and not self._received:
            raise self._error
        head, blank, rest = bytes(self._received).partition(b"\r\n\r\n")
        return Answer(head + blank, rest, self._ended)


def _is_binary(received: bytearray) -> bool:
    """Whether this is no HTTP/1.1: a frame of HTTP/2, whose head of nine bytes begins with its length."""
    return len(received) >= 9 and received[0] == 0


def _status(head: bytes) -> int:
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
        length = int(_field(head, b"content-length"))
        if length >= 0:
            return length
    return MAX_ANSWER


def _unchunked(data: bytes) -> bytes:
    """Source: RFC 9112, section 7.1. Takes what is whole and understood, for texts that people read."""
    body, position = bytearray(), 0
    with suppress(ValueError):
        while (end := data.find(b"\r\n", position)) >= 0 and (size := int(data[position:end].split(b";")[0], 16)) > 0:
            body += data[end + 2 : end + 2 + size]
            position = end + 2 + size + 2
    return bytes(body)
