"""A stream of JSON objects, as the Engine answers what takes long: bytes in any pieces, whole objects out.

The Engine writes each object on a line of its own that ends in CRLF and never inside an object, so a line is
complete when its newline is there and every byte is looked at once. Objects that share a line are accepted too.

Source: moby/moby:pkg/streamformatter/streamformatter.go (appendNewline).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Protocol

from buildkit_session.errors import ConnectionClosed, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ByteSource", "JsonStream", "read_objects"]

_DECODER = json.JSONDecoder()
_BLANKS = re.compile(r"[ \t\r]*")

# A progress object wraps one gRPC message of at most 16 MiB (BuildKit's own limit) in base64: 21.4 MiB.
MAX_OBJECT = 32 * 1024 * 1024


class ByteSource(Protocol):
    """Where the bytes of the answer come from."""

    async def receive(self) -> bytes:
        """Return the next bytes, or ``b""`` at the proper end of the answer; raise if it was cut off."""


class JsonStream:
    """Cuts a byte stream into JSON objects. Linear in the bytes fed; holds at most one unfinished object."""

    def __init__(self, *, max_object: int = MAX_OBJECT) -> None:
        """Start at the beginning of a stream; ``max_object`` is the longest accepted line in bytes."""
        self._max_object = max_object
        self._pieces: list[bytes] = []  # the line so far, without a newline in it
        self._held = 0  # bytes in _pieces

    def feed(self, data: bytes) -> list[dict[str, object]]:
        """Take the next bytes and return the objects they complete, in order. Values other than objects are dropped.

        Raises:
            RemoteProtocolError: a line is not JSON or above ``max_object``. The stream cannot be used any more.
        """
        *lines, rest = data.split(b"\n")
        objects: list[dict[str, object]] = []
        for line in lines:
            self._hold(line)
            objects += self._take_line()
        self._hold(rest)
        return objects

    def close(self) -> list[dict[str, object]]:
        """Say that the stream ended; return what stood after the last newline.

        Raises:
            ConnectionClosed: the stream ended inside an object.
        """
        try:
            return self._take_line()
        except RemoteProtocolError as exc:
            msg = "the Engine's answer ended inside a JSON object"
            raise ConnectionClosed(msg) from exc

    def _hold(self, piece: bytes) -> None:
        self._held += len(piece)
        if self._held > self._max_object:
            msg = f"the Engine sent a JSON line of {self._held} bytes or more; the limit is {self._max_object}"
            raise RemoteProtocolError(msg)
        if piece:
            self._pieces.append(piece)

    def _take_line(self) -> list[dict[str, object]]:
        line = b"".join(self._pieces).decode("utf-8", "replace")
        self._pieces.clear()
        self._held = 0
        try:
            return [value for value in _values(line) if isinstance(value, dict)]
        except (ValueError, RecursionError) as exc:  # also numbers too long for int(), and nesting too deep
            msg = f"the Engine sent something that is not JSON: {line[:200]!r}"
            raise RemoteProtocolError(msg) from exc


async def read_objects(source: ByteSource, take: Callable[[dict[str, object]], Awaitable[None]]) -> None:
    """Read all objects of an answer, and hand them over one by one; what ``take`` raises ends that.

    Raises:
        RemoteProtocolError: something else than JSON arrived.
        ConnectionClosed: the answer was cut off.
    """
    stream = JsonStream()
    while data := await source.receive():
        for entry in stream.feed(data):
            await take(entry)
    for entry in stream.close():
        await take(entry)


def _values(line: str) -> list[object]:
    values = []
    position = _skip_blanks(line, 0)
    while position < len(line):
        value, end = _DECODER.raw_decode(line, position)
        values.append(value)
        position = _skip_blanks(line, end)
    return values


def _skip_blanks(line: str, position: int) -> int:
    match = _BLANKS.match(line, position)
    return match.end() if match else position
