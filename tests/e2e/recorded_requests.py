"""A socket before a daemon's that keeps what a client sends, to see what the real buildx asks for.

Bytes go through untouched; they are taken apart only when the client has ended.
"""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

import betterproto2
from hpack import Decoder

from buildkit_session.messages.moby.buildkit.v1 import SolveRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _CONTINUATION = 0, 1, 9
_TEXT, _MAP = betterproto2.TYPE_STRING, betterproto2.TYPE_MAP


@dataclass(eq=False, repr=False)
class GatewaySolve(betterproto2.Message):
    """The part of moby.buildkit.v1.frontend.SolveRequest that is looked at."""

    frontend: str = betterproto2.field(2, _TEXT)
    frontend_opt: dict[str, str] = betterproto2.field(3, _MAP, map_meta=betterproto2.map_meta(_TEXT, _TEXT))  # noqa: RUF009


@dataclass(frozen=True, slots=True)
class Asked:
    """One build, as a client asked for it, and what the frontend was told, if it came to that."""

    build: SolveRequest
    frontend: GatewaySolve | None


@dataclass
class _Connection:
    client: socket.socket
    daemon: socket.socket
    sent: bytearray = field(default_factory=bytearray)


class Recorder:
    """Forwards to the daemon at ``address``, ``unix:///...``, and records."""

    def __init__(self, address: str) -> None:
        self._target = address.removeprefix("unix://")
        self._connections: list[_Connection] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        place = Path(self._stack.enter_context(TemporaryDirectory(prefix="bks-rec-")), "s")
        self._listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        self._listener.bind(str(place))
        self._listener.listen()
        self.address = f"unix://{place}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._connections:
            for end in (connection.client, connection.daemon):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._stack.close()

    def asked(self) -> Asked:
        """What the one build that was run asked for."""
        calls = [call for connection in self._connections for call in _calls(bytes(connection.sent))]
        # Before it, buildx asks for a build of nothing, to learn what the daemon can do.
        *_, build = (body for path, body in calls if path == b"/moby.buildkit.v1.Control/Solve")
        told = [
            GatewaySolve.parse(body) for path, body in calls if path == b"/moby.buildkit.v1.frontend.LLBBridge/Solve"
        ]
        return Asked(SolveRequest.parse(build), next((solve for solve in told if solve.frontend), None))

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                daemon = socket.socket(socket.AF_UNIX)
                daemon.connect(self._target)
                connection = _Connection(client, daemon)
                self._connections.append(connection)
                threading.Thread(target=_pump, args=(client, daemon, connection.sent), daemon=True).start()
                threading.Thread(target=_pump, args=(daemon, client, None), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray | None) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            if kept is not None:
                kept += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _calls(sent: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The path and first message of each gRPC call of a connection."""
    _, found, frames = sent.partition(_PREFACE)
    if not found:
        return
    decoder = Decoder()
    paths: dict[int, bytes] = {}
    bodies: dict[int, bytearray] = {}
    block = bytearray()
    for kind, flags, stream, payload in _frames(frames):
        if kind in (_HEADERS, _CONTINUATION):
            block += payload
            if flags & 4:
                headers = dict(decoder.decode(bytes(block), raw=True))
                paths.setdefault(stream, headers.get(b":path", b""))
                block.clear()
        elif kind == _DATA:
            bodies.setdefault(stream, bytearray()).extend(payload)
    for stream, path in paths.items():
        body = bytes(bodies.get(stream, b""))
        yield path, body[5 : 5 + int.from_bytes(body[1:5], "big")]


def _frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    position = 0
    while position + 9 <= len(data):
        size = int.from_bytes(data[position : position + 3], "big")
        kind, flags = data[position + 3], data[position + 4]
        stream = int.from_bytes(data[position + 5 : position + 9], "big")
        yield kind, flags, stream, data[position + 9 : position + 9 + size]
        position += 9 + size
