"""A program as a connection: real programs, their bytes, their end and what they say of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
import uvloop

from buildkit_session.engine import process_transport
from buildkit_session.engine.process_transport import ProcessTransport, run
from buildkit_session.engine.tail import ProgramEnded

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

PIECE = bytes(range(256)) * 1024
LONG = 64  # pieces


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    loop = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    return "asyncio", {"loop_factory": loop}


class Plain(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = asyncio.Event()
        self.error: Exception | None = None
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.arrived = asyncio.Event()

    def take(self, data: bytes | bytearray) -> None:
        self.received += data
        self.arrived.set()

    def data_received(self, data: bytes) -> None:
        self.take(data)

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.lost.set()

    async def until(self, size: int) -> None:
        while len(self.received) < size:
            self.arrived.clear()
            await self.arrived.wait()


class Buffered(asyncio.BufferedProtocol):
    """Takes bytes through a buffer of its own and is a ``Plain`` in all else."""

    def __init__(self, plain: Plain) -> None:
        self.buffer = bytearray(1000)
        self.plain = plain
        self.connection_lost = plain.connection_lost  # type: ignore[method-assign]
        self.pause_writing = plain.pause_writing  # type: ignore[method-assign]
        self.resume_writing = plain.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, _sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.plain.take(self.buffer[:nbytes])


async def started(*command: str) -> tuple[ProcessTransport, Plain]:
    return await run(command, Plain)


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


async def closed(transport: ProcessTransport, protocol: Plain) -> None:
    transport.close()
    await asyncio.wait_for(protocol.lost.wait(), 10)


def is_gone(pid: int) -> bool:
    """Whether there is no such process, dead ones that nobody has reaped included."""
    return not Path(f"/proc/{pid}").exists()


def is_alive(pid: int) -> bool:
    """Whether the process does anything any more; whoever adopted it reaps it."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def children() -> set[str]:
    return set((Path("/proc/self/task") / str(os.getpid()) / "children").read_text().split())


@pytest.mark.parametrize("buffered", [False, True], ids=["protocol", "buffered protocol"])
async def test_bytes_go_through_unchanged(buffered: bool) -> None:
    """Megabytes in both directions at once, with back-pressure, to protocols of either kind."""
    transport, protocol = await started("cat")
    if buffered:
        transport.set_protocol(Buffered(protocol))
    transport.set_write_buffer_limits(high=len(PIECE))
    paused = 0
    with anyio.fail_after(60):
        for _ in range(LONG):
            transport.writelines([PIECE[:1000], PIECE[1000:]])
            paused += not protocol.may_write.is_set()
            await protocol.may_write.wait()
        await protocol.until(LONG * len(PIECE))
    assert protocol.received == PIECE * LONG
    assert paused
    await closed(transport, protocol)
    assert protocol.error is None


async def test_reading_can_be_paused() -> None:
    """While it is paused nothing arrives, and what the next protocol is given comes after that."""
    transport, first = await started("cat")
    transport.pause_reading()
    assert not transport.is_reading()
    transport.write(b"hello")
    second = Plain()
    transport.set_protocol(second)
    await anyio.sleep(0.05)
    assert not second.received
    transport.resume_reading()
    with anyio.fail_after(10):
        await second.until(5)
    assert not first.received
    await closed(transport, second)


async def test_closing_ends_the_program() -> None:
    """A program that ends with its input is not sent a signal; nothing of it is left when the protocol is told."""
    before = children()
    transport, protocol = await started(
        *python("import sys; sys.stdin.buffer.read(); sys.stderr.write('done'); sys.exit(3)")
    )
    await closed(transport, protocol)
    assert protocol.error is None  # this side closed first
    assert children() <= before


@pytest.mark.parametrize("end", [ProcessTransport.close, ProcessTransport.abort], ids=["close", "abort"])
async def test_a_stubborn_program_is_killed(
    end: Callable[[ProcessTransport], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ignores the end of its input and SIGTERM goes as well, and so do its children."""
    monkeypatch.setattr(process_transport, "GRACE", 0.1)
    stubborn = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); child = os.fork();\n"
        "if child: os.write(1, b'%d %d ' % (os.getpid(), child))\n"
        "time.sleep(600)"
    )
    transport, protocol = await started(*python(stubborn))
    with anyio.fail_after(10):
        while protocol.received.count(b" ") < 2:
            protocol.arrived.clear()
            await protocol.arrived.wait()
    program, child = map(int, protocol.received.split())
    end(transport)
    with anyio.fail_after(10):
        await protocol.lost.wait()
        assert is_gone(program)
        while is_alive(child):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_program_that_fails_says_why() -> None:
    """The end of its standard error is part of the connection's error, with nothing in it that drives a terminal."""
    _, protocol = await started("sh", "-c", r"printf 'x%.0s' $(seq 5000) >&2; printf '\033[2J\nno way\n' >&2; exit 255")
    with anyio.fail_after(10):
        await protocol.lost.wait()
    assert isinstance(protocol.error, ProgramEnded)
    assert str(protocol.error).startswith("the program 'sh' ended with status 255: xxx")
    assert str(protocol.error).endswith(r"\x1b[2J; no way")
    assert len(str(protocol.error)) < 3000


async def test_a_program_that_is_killed() -> None:
    _, protocol = await started("sh", "-c", "kill -9 $$")
    with anyio.fail_after(10):
        await protocol.lost.wait()
    assert "was ended by signal 9: it gave no reason" in str(protocol.error)


async def test_a_regular_end() -> None:
    """A program that has nothing to complain about just hangs up, after its last bytes."""
    transport, protocol = await started("echo", "bye")
    with anyio.fail_after(10):
        await protocol.lost.wait()
    assert protocol.received == b"bye\n"
    assert protocol.error is None
    assert transport.is_closing()


async def test_a_program_that_only_closes_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no connection any more, and so is ended."""
    monkeypatch.setattr(process_transport, "GRACE", 0.1)
    _, protocol = await started("sh", "-c", "exec >&- <&-; exec sleep 600")
    with anyio.fail_after(10):
        await protocol.lost.wait()
    assert f"signal {int(signal.SIGTERM)}" in str(protocol.error)


async def test_one_left_behind_holds_standard_error() -> None:
    """What a program left in the background, as ssh does with a shared connection, is not waited for."""
    _, protocol = await started("sh", "-c", "setsid sleep 5 </dev/null >/dev/null & exit 4")
    with anyio.fail_after(4):
        await protocol.lost.wait()
    assert "status 4" in str(protocol.error)


async def test_no_such_program(tmp_path: Path) -> None:
    with pytest.raises(ProgramEnded, match="no program 'no-such-program' here: install it"):
        await started("no-such-program")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ProgramEnded, match="cannot be started: Permission denied"):
        await started(str(tmp_path / "text"))


async def start_and_abort() -> None:
    transport, protocol = await started("sleep", "600")
    transport.abort()
    with anyio.CancelScope(shield=True):
        await protocol.lost.wait()


async def test_a_cancelled_start_leaves_nothing() -> None:
    """Wherever the start is interrupted, the program ends."""
    before = children()
    for turns in range(12):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(start_and_abort)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
    with anyio.fail_after(10):
        while not children() <= before:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
