"""A program as a connection: an asyncio transport over its standard input and output.

The program gets one end of a socket pair as both, so that the other end is an ordinary transport of the loop, with its
buffers and its speed. What is added here is the program's life: it is ended and reaped with the connection, and what it
wrote to standard error is part of the connection's error.

It runs in a session of its own: an interrupt from the terminal reaches only the caller, who ends it in order, and it
can ask nothing on the terminal. Whatever it has started meanwhile in its process group ends with it.

Source: docker/cli:cli/connhelper/commandconn.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar, cast

from buildkit_session.engine.layered import LayeredTransport
from buildkit_session.engine.tail import ProgramEnded, Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

__all__ = ["ProcessTransport", "run"]

GRACE: Final = 1.0
"""Seconds a program has to end after its input has ended, then after SIGTERM, then after SIGKILL."""

LAST_WORDS: Final = 0.1
"""Seconds that standard error is read for after the end: a process left behind may hold it open for ever."""

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


async def run(command: Sequence[str], make_protocol: Callable[[], _P]) -> tuple[ProcessTransport, _P]:
    """Start a program and connect a protocol to it.

    That it has started says nothing about what it connects to: if that fails, the program ends, and so does the
    connection. A cancelled call leaves nothing behind.

    Raises:
        ProgramEnded: it could not be started.
    """
    loop = asyncio.get_running_loop()
    child = _Child(command)
    ours, words = child.start()
    transport = ProcessTransport(child, protocol := make_protocol())
    try:
        await loop.create_unix_connection(lambda: child, sock=words)
        await loop.create_unix_connection(transport.relay, sock=ours)
    except BaseException:
        ours.close()
        words.close()
        child.end(at_once=True)
        raise
    return transport, protocol


class ProcessTransport(LayeredTransport):
    """The connection to a program. ``connection_lost`` is called once the program is gone."""

    def __init__(self, child: _Child, protocol: asyncio.BaseProtocol) -> None:
        super().__init__(protocol)
        self._child = child
        self._ours = False  # this side closed first

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See :class:`asyncio.BaseTransport`."""
        self.protocol = protocol
        self.inner.set_protocol(self.relay())

    def relay(self) -> _Relay | _BufferedRelay:
        """Make what stands in front of the protocol."""
        return _BufferedRelay(self) if isinstance(self.protocol, asyncio.BufferedProtocol) else _Relay(self)

    def close(self) -> None:
        """Send what is buffered, then end the program's input; it has ``GRACE`` seconds from then."""
        self._ours = True
        self.inner.close()

    def abort(self) -> None:
        """Drop what is buffered and end the program."""
        self._ours = True
        self.inner.abort()
        self._child.end(at_once=True)

    def _lost(self, error: Exception | None) -> None:
        """The stream is gone; the end of the program says why, and comes before the protocol is told."""
        self._child.end()
        self._child.gone.add_done_callback(lambda _: self._tell(error))

    def _tell(self, error: Exception | None) -> None:
        protocol = cast("asyncio.Protocol", self.protocol)
        protocol.connection_lost(error if self._ours else self._child.failure() or error)


class _RelayBase:
    """Stands in front of the user's protocol. That the program ends its output is the end of the connection."""

    def __init__(self, transport: ProcessTransport) -> None:
        self._transport = transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport.inner = cast("asyncio.Transport", transport)
        self._transport.protocol.connection_made(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport._lost(exc)

    def eof_received(self) -> bool:
        self._transport.inner.abort()  # nobody is left to read what is buffered
        return False

    def pause_writing(self) -> None:
        self._transport.protocol.pause_writing()

    def resume_writing(self) -> None:
        self._transport.protocol.resume_writing()


class _Relay(_RelayBase, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        cast("asyncio.Protocol", self._transport.protocol).data_received(data)


class _BufferedRelay(_RelayBase, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> Buffer:
        return cast("asyncio.BufferedProtocol", self._transport.protocol).get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        cast("asyncio.BufferedProtocol", self._transport.protocol).buffer_updated(nbytes)


class _Child(asyncio.Protocol):
    """The life of the program; the protocol of its standard error.

    Not asyncio's own subprocesses: those of uvloop inherit copies of the sockets, and so cannot close them.

    Attributes:
        gone: done when it was reaped, or cannot be ended.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._words = Tail()
        self._exited = False
        self._silent = False  # standard error has ended
        self._pressed = False  # it was sent a signal
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> tuple[socket.socket, socket.socket]:
        """Start the program; return our ends of its input and output, and of its standard error.

        Raises:
            ProgramEnded: it could not be started.
        """
        name = self._command[0]
        ours, theirs = socket.socketpair()
        words, their_words = socket.socketpair()
        try:
            with theirs, their_words:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=their_words.fileno(),
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            words.close()
            if isinstance(error, FileNotFoundError):
                raise ProgramEnded(
                    f"there is no program {name!r} here: install it, or add its place to PATH"
                ) from error
            raise ProgramEnded(f"the program {name!r} cannot be started: {error.strerror or error}") from error
        threading.Thread(target=self._wait, name=f"wait for {name}", daemon=True).start()
        ours.setblocking(False)
        words.setblocking(False)
        return ours, words

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._words.add(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._silent = True
        if self._exited:
            self._finish()

    def end(self, *, at_once: bool = False) -> None:
        """See to it that the program ends; its input has ended, or is about to."""
        if self._exited or self._pressed:
            return
        if at_once:
            if self._transport is not None:
                self._transport.abort()  # nobody asks why any more, and the loop may be about to close
            self._press()
        elif self._timer is None:
            self._after(GRACE, self._press)

    def failure(self) -> ProgramEnded | None:
        """Why the program ended, unless it did so regularly."""
        status = None if self._process is None else self._process.returncode
        if status == 0:
            return None
        how = "does not end" if status is None else f"ended with status {status}"
        if status is not None and status < 0:
            how = f"was ended by signal {-status}"
        text = self._words.text()
        return ProgramEnded(f"the program {self._command[0]!r} {how}: {text or 'it gave no reason'}")

    def _wait(self) -> None:
        """In a thread of its own, as nothing else works on every system and in every loop."""
        assert self._process is not None  # noqa: S101
        self._process.wait()
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        self._exited = True
        self._signal(signal.SIGKILL)  # what else there is in its group
        if self._silent:
            self._finish()
        else:
            self._after(LAST_WORDS, self._finish)

    def _press(self) -> None:
        self._pressed = True
        self._signal(signal.SIGTERM)
        self._after(GRACE, self._press_hard)

    def _press_hard(self) -> None:
        self._signal(signal.SIGKILL)
        self._after(GRACE, self._finish)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, call)

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        if not self.gone.done():
            self.gone.set_result(None)
