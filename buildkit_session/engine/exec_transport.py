"""A program in a container as a connection: the Engine's exec call, and the frames its output comes in.

What this side sends is the program's input as it is. What comes back is cut into frames: eight bytes (one of the
stream, three zeros, four of length, big-endian) and the payload. Standard output is the connection; standard error, and
a text of the Engine's in place of the program's output, are kept for the connection's error.

Source: moby/moby:api/swagger.yaml (ContainerAttach, ContainerExec, ExecStart), moby/moby:pkg/stdcopy/stdcopy.go,
moby/moby:api/server/router/container/exec.go; docker/buildx:driver/docker-container/driver.go (Client).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar, cast
from urllib.parse import quote

from buildkit_session.engine.address import BUILDX_PREFIX, ContainerAddress
from buildkit_session.engine.exchange import Answer, base_path, exchange, make_request
from buildkit_session.engine.faults import error_text, unreachable
from buildkit_session.engine.layered import LayeredTransport, deliver
from buildkit_session.engine.ping import ping
from buildkit_session.engine.tail import ProgramEnded, Tail
from buildkit_session.errors import EngineError, InputError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buildkit_session.engine.address import Endpoint

__all__ = ["ExecTransport", "run_in_container"]

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

_DIAL: Final = ["buildctl", "dial-stdio"]
_HEADER: Final = 8
_STDOUT: Final = 1
_STDERR: Final = 2
_SYSTEM_ERROR: Final = 3  # the Engine's own complaint (moby/moby:pkg/stdcopy/stdcopy.go, Systemerr)


async def run_in_container(endpoint: Endpoint, make_protocol: Callable[[], _P]) -> tuple[ExecTransport, _P]:
    """Connect a protocol to the buildkitd of a container.

    Args:
        endpoint: whose address is a ``ContainerAddress``, and whose ``via`` the Engine that runs the container.
        make_protocol: makes the protocol once the Engine has agreed.

    Raises:
        EngineUnreachable: there is no connection to the Engine.
        EngineError: the Engine refused: there is no such container, or it does not run.
    """
    engine, address = endpoint.via, endpoint.address
    if engine is None or not isinstance(address, ContainerAddress):
        raise InputError(f"{endpoint} does not say which Engine runs the container: use find_endpoint()")
    base = f"{base_path(engine.address)}/v{(await ping(engine)).api_version}"
    asked = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Cmd": _DIAL}
    exec_id = _id_of(
        await _create(engine, f"{base}/containers/{quote(address.name, safe='')}/exec", asked, address), engine
    )
    transport, answer = await _start(engine, f"{base}/exec/{exec_id}/start")
    if answer.status not in (101, 200) or answer.field("Transfer-Encoding"):
        transport.abort()
        raise _refused(answer, engine, f"to run 'buildctl' in the container {address.name!r}")
    protocol = make_protocol()
    outer = ExecTransport(transport, protocol)
    protocol.connection_made(outer)
    outer.receive(answer.rest)
    if outer.is_reading():  # the protocol may have had enough already
        outer.resume_reading()
    return outer, protocol


async def _create(engine: Endpoint, path: str, asked: Mapping[str, object], address: ContainerAddress) -> Answer:
    request = _json_request(engine, f"POST {path}", asked)
    transport, answer = await _exchange(engine, request, head_only=())
    transport.abort()
    if answer.status != 201:
        raise _refused(answer, engine, f"to reach into the container {address.name!r}", _hint(answer, address.name))
    return answer


def _id_of(answer: Answer, engine: Endpoint) -> str:
    with suppress(ValueError, RecursionError):
        made = json.loads(answer.body())
        if isinstance(made, dict) and isinstance(exec_id := made.get("Id"), str) and exec_id.isalnum():
            return exec_id
    raise EngineError(f"the Engine at {engine} did not name what it was asked to run in a container")


async def _start(engine: Endpoint, path: str) -> tuple[asyncio.Transport, Answer]:
    fields = [("Connection", "Upgrade"), ("Upgrade", "tcp")]
    request = _json_request(engine, f"POST {path}", {"Detach": False, "Tty": False}, fields)
    return await _exchange(engine, request, head_only=(101, 200))


async def _exchange(engine: Endpoint, request: bytes, head_only: tuple[int, ...]) -> tuple[asyncio.Transport, Answer]:
    try:
        return await exchange(engine, request, head_only=head_only)
    except OSError as error:
        raise unreachable(engine, error) from error


def _json_request(
    engine: Endpoint, call: str, asked: Mapping[str, object], fields: list[tuple[str, str]] | None = None
) -> bytes:
    return make_request(
        engine, call, [("Content-Type", "application/json"), *(fields or [])], body=json.dumps(asked).encode()
    )


def _refused(answer: Answer, engine: Endpoint, what: str, hint: str = "") -> EngineError:
    text = error_text(answer.body()) or "no reason given"
    status = f"HTTP {answer.status}" if answer.status else "no HTTP"
    return EngineError(f"the Engine at {engine} refused {what}: {text} ({status}){hint}", status=answer.status or None)


def _hint(answer: Answer, container: str) -> str:
    if answer.status not in (404, 409):  # no such container, or it does not run
        return ""
    if container.startswith(BUILDX_PREFIX):
        return "; start the builder with 'docker buildx inspect --bootstrap NAME'"
    return "; see 'docker ps -a', and start it with 'docker start'"


class ExecTransport(LayeredTransport):
    """The connection to a program in a container; takes the frames apart before its protocol sees them.

    What one read brought is held while the protocol has paused reading, and given to it first afterwards.
    """

    def __init__(self, inner: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
        super().__init__(protocol)
        self._frames = _Frames(self._take)
        self._words = Tail()
        self._begun = False  # the program's output has
        self._no_program = False  # what comes in its place is a text
        self._paused = False
        self._held: deque[bytes] = deque()
        self._ours = False  # this side closed first
        self._fault: Exception | None = None
        self.inner = inner
        inner.set_protocol(_Receiver(self))

    def close(self) -> None:
        """See :class:`asyncio.BaseTransport`."""
        self._ours = True
        self.inner.close()

    def abort(self) -> None:
        """See :class:`asyncio.WriteTransport`."""
        self._ours = True
        self.inner.abort()

    def is_reading(self) -> bool:
        """See :class:`asyncio.ReadTransport`."""
        return not self._paused

    def pause_reading(self) -> None:
        """See :class:`asyncio.ReadTransport`."""
        self._paused = True
        self.inner.pause_reading()

    def resume_reading(self) -> None:
        """See :class:`asyncio.ReadTransport`."""
        self._paused = False
        while self._held and not self._paused:
            deliver(self.protocol, memoryview(self._held.popleft()))
        if not self._paused:
            self.inner.resume_reading()

    def receive(self, data: bytes) -> None:
        """Take what the Engine sent."""
        try:
            self._frames.feed(memoryview(data))
        except RemoteProtocolError as error:
            self._fault = error
            self.inner.abort()

    def lost(self, exc: Exception | None) -> None:
        """Tell the protocol that the connection is gone, and why."""
        cast("asyncio.Protocol", self.protocol).connection_lost(self._fault or self._reason() or exc)

    def _reason(self) -> Exception | None:
        if self._ours:
            return None
        if text := self._words.text():
            return ProgramEnded(f"'buildctl dial-stdio' in the container ended: {text}")
        if self._frames.inside:
            return ProgramEnded("the Engine ended the connection to the container in the middle of a frame")
        return None

    def _take(self, stream: int, payload: memoryview) -> None:
        if stream == _STDOUT and not self._begun:
            self._begun = True
            # Where it cannot run the program, the Engine says so there. A server of HTTP/2 begins with a short frame.
            self._no_program = payload[0] != 0
        if stream != _STDOUT or self._no_program:
            self._words.add(payload)
        elif self._paused:
            self._held.append(bytes(payload))
        else:
            deliver(self.protocol, payload)


class _Receiver(asyncio.Protocol):
    """Stands between the connection to the Engine and the transport above."""

    def __init__(self, transport: ExecTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.receive(data)

    def eof_received(self) -> bool:
        self._transport.inner.abort()  # nobody is left to read what is buffered
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport.lost(exc)

    def pause_writing(self) -> None:
        self._transport.protocol.pause_writing()

    def resume_writing(self) -> None:
        self._transport.protocol.resume_writing()


class _Frames:
    """Takes frames apart as they arrive, in linear time; holds nothing but a header that is not whole yet."""

    def __init__(self, take: Callable[[int, memoryview], None]) -> None:
        self._take = take
        self._header = bytearray()
        self._stream = 0
        self._left = 0  # bytes of payload that are still to come

    @property
    def inside(self) -> bool:
        """Whether more of a frame must come."""
        return bool(self._left or self._header)

    def feed(self, data: memoryview) -> None:
        """Take bytes, cut anywhere.

        Raises:
            RemoteProtocolError: they are no frames.
        """
        position = 0
        while position < len(data):
            if self._left:
                piece = data[position : position + self._left]
                self._left -= len(piece)
                self._take(self._stream, piece)
            else:
                piece = data[position : position + _HEADER - len(self._header)]
                self._header += piece
                if len(self._header) == _HEADER:
                    self._open()
            position += len(piece)

    def _open(self) -> None:
        stream, zeros, size = self._header[0], self._header[1:4], self._header[4:]
        if stream not in (_STDOUT, _STDERR, _SYSTEM_ERROR) or any(zeros):
            raise RemoteProtocolError(f"the Engine sent no frames of a container's output: {bytes(self._header)!r}")
        self._stream = stream
        self._left = int.from_bytes(size, "big")
        self._header.clear()
