"""BuildKit's Control API as a script: the end of a hijacked ``/grpc``, written frame by frame.

It answers what every client asks first by itself, and gives a test the one build that is asked for; see
``fake_engine``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from scripted_server import DONE, OK, ScriptedServer, announcement, answer, headers, long_headers, message

from buildkit_session.messages.moby.buildkit.v1 import ListWorkersResponse, SolveResponse
from buildkit_session.messages.moby.buildkit.v1.types import WorkerRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_session.http2.events import Headers
    from buildkit_session.messages.moby.buildkit.v1 import StatusResponse

__all__ = ["ControlPeer", "HungUp", "Solve", "half_closed", "reset", "shut"]

LIST_WORKERS, SOLVE, STATUS = (b"/moby.buildkit.v1.Control/" + name for name in (b"ListWorkers", b"Solve", b"Status"))
WORKERS = bytes(ListWorkersResponse(record=[WorkerRecord(id="scripted")]))


class HungUp(Exception):
    """The client has closed the connection that the script waits on."""


def shut(sock: socket.socket) -> None:
    """Say nothing more and hear nothing more; a pending read of the script ends too."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def reset(sock: socket.socket) -> None:
    """Close so that the client sees a reset; TCP only. A pending read of the script waits for its end."""
    asyncio.get_running_loop().remove_reader(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def half_closed(sock: socket.socket) -> None:
    """Say nothing more."""
    sock.shutdown(socket.SHUT_WR)


class ControlPeer(ScriptedServer):
    """The daemon's end of one connection to the Control API.

    Attributes:
        answers: whether the list of workers is answered.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, connection=None)  # type: ignore[arg-type]  # the other end is the library's own
        self.h2.initiate_connection()
        self.h2.clear_outbound_data_buffer()
        self.sock = sock
        self.answers = True

    async def write(self, *frames: bytes) -> None:
        """Write raw frames.

        Raises:
            HungUp: either side has closed the connection.
        """
        try:
            await super().write(*frames)
        except OSError as error:
            raise HungUp from error

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until received bytes make ``condition`` true.

        Raises:
            HungUp: the client closed the connection first.
        """
        while not condition():
            if self.closed:
                raise HungUp
            self._news.clear()
            await self._news.wait()

    async def serve(self, on_solve: Callable[[Solve], None]) -> None:
        """Answer what can be answered here, and hand on the build that is asked for."""
        await self.write(announcement())
        taken: set[int] = set()
        while True:
            await self.until(lambda: bool(self._whole() - taken))
            for stream in self._whole() - taken:
                taken.add(stream)
                if self.path(stream) == LIST_WORKERS and self.answers:
                    await self.write(answer(stream, WORKERS))
                elif self.path(stream) == SOLVE:
                    on_solve(Solve(self, stream))

    def path(self, stream: int) -> bytes:
        """What a call is for."""
        return dict(self.streams[stream].headers)[b":path"]

    def close(self) -> None:
        shut(self.sock)

    def reset(self) -> None:
        reset(self.sock)

    def half_close(self) -> None:
        half_closed(self.sock)

    def _whole(self) -> set[int]:
        """The requests that are whole."""
        return {number for number, asked in self.streams.items() if asked.ended}


class Solve:
    """One build: its ``Solve``, and the ``Status`` that tells of it."""

    def __init__(self, peer: ControlPeer, stream: int) -> None:
        self.peer = peer
        self._solve = stream
        self._status = 0
        self._response: dict[str, str] = {}
        self._failed = False

    @property
    def cancelled(self) -> bool:
        """Whether the client has given the call up."""
        return self.peer.streams[self._solve].reset is not None

    async def begin(self) -> None:
        """Begin to tell of it."""
        await self.peer.until(lambda: any(self.peer.path(number) == STATUS for number in self.peer.streams))
        self._status = next(number for number in self.peer.streams if self.peer.path(number) == STATUS)
        await self.peer.write(headers(self._status, OK))

    async def trace(self, status: StatusResponse) -> None:
        """Send progress."""
        await self.send_progress(bytes(status))

    async def send_progress(self, body: bytes) -> None:
        """Send what may be progress."""
        await self.peer.write(message(self._status, body))

    async def fail(self, text: str) -> None:
        """Say how it failed."""
        self._failed = True
        fields = [(b"grpc-status", b"2"), (b"grpc-message", "".join(f"%{byte:02X}" for byte in text.encode()).encode())]
        await self.peer.write(headers(self._solve, OK), long_headers(self._solve, fields))

    async def image(self, digest: str) -> None:
        """Name the image that was made."""
        self._response["containerimage.config.digest"] = digest

    async def end(self) -> None:
        """End it as a build that succeeded, unless it has failed."""
        if not self._failed:
            await self.succeed()
        await self.end_status(DONE)

    async def succeed(self) -> None:
        """Answer it, and say nothing to whoever follows."""
        await self.peer.write(answer(self._solve, bytes(SolveResponse(exporter_response=self._response))))

    async def end_status(self, trailers: Headers) -> None:
        """End what tells of it."""
        await self.peer.write(headers(self._status, trailers, end=True))

    @property
    def progress(self) -> int:
        """The stream that tells of it."""
        return self._status

    def close(self) -> None:
        self.peer.close()

    def reset(self) -> None:
        self.peer.reset()

    def half_close(self) -> None:
        self.peer.half_close()
