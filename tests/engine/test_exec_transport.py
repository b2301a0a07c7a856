"""A program in a container as a connection: a scripted Engine for every cut and lie, and a real one."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from buildkit_session.engine.address import ContainerAddress, Endpoint, UnixSocket, parse_address
from buildkit_session.engine.dialing import dial
from buildkit_session.engine.ping import BuildkitdFound, probe
from buildkit_session.engine.tail import ProgramEnded
from buildkit_session.errors import EngineError, InputError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

pytestmark = pytest.mark.anyio

PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nServer: Docker/28 (linux)\r\nContent-Length: 0\r\n\r\n"
CREATED = b'HTTP/1.1 201 Created\r\nContent-Length: 12\r\n\r\n{"Id":"a1b"}'
SWITCHED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"


def frame(payload: bytes, stream: int = 1) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(payload).to_bytes(4, "big") + payload


class Program(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.error: Exception | None = None
        self.lost = asyncio.Event()
        self.arrived = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self.pause_after: int | None = None

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self.arrived.set()
        if self.pause_after == len(self.pieces):
            assert self.transport is not None
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.lost.set()

    async def until(self, size: int) -> None:
        with anyio.fail_after(10):
            while len(self.received) < size:
                self.arrived.clear()
                await self.arrived.wait()


class Buffered(asyncio.BufferedProtocol):
    """Takes bytes through three bytes of buffer."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = asyncio.Event()
        self._buffer = bytearray(3)

    def get_buffer(self, _sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self._buffer[:nbytes]

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost.set()


class ScriptedEngine:
    """Answers the three calls; the last one with given pieces. Hangs up after them, or when the client does."""

    def __init__(self, pieces: Sequence[bytes], *, created: bytes, hold: bool) -> None:
        self.requests: list[bytes] = []
        self.after = b""
        self.hung_up = asyncio.Event()
        self._pieces = pieces
        self._created = created
        self._hold = hold

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.requests.append(head + await reader.readexactly(length))
        if b"_ping" in head:
            writer.write(PING)
        elif b"/containers/" in head:
            writer.write(self._created)
        else:
            for piece in self._pieces:
                writer.write(piece)
                await asyncio.sleep(0)
            if self._hold:
                self.after = await reader.read()
                self.hung_up.set()
        writer.close()


@asynccontextmanager
async def engine(
    tmp_path: Path, *pieces: bytes, created: bytes = CREATED, hold: bool = False
) -> AsyncIterator[tuple[Endpoint, ScriptedEngine]]:
    scripted = ScriptedEngine(pieces, created=created, hold=hold)
    async with await asyncio.start_unix_server(scripted, tmp_path / "e"):
        yield Endpoint(ContainerAddress("bk"), via=Endpoint(UnixSocket(str(tmp_path / "e")))), scripted


async def connected(endpoint: Endpoint, program: Program | None = None) -> Program:
    """Connect, and wait for the end."""
    _, protocol = await dial(endpoint, lambda: program or Program())
    with anyio.fail_after(10):
        await protocol.lost.wait()
    return protocol


async def test_calls(tmp_path: Path) -> None:
    """What is asked of the Engine, and that our bytes go out as they are."""
    async with engine(tmp_path, SWITCHED, hold=True) as (endpoint, scripted):
        transport, protocol = await dial(endpoint, Program)
        transport.writelines([b"PRI ", b"*"])
        transport.close()
        with anyio.fail_after(10):
            await scripted.hung_up.wait()
            await protocol.lost.wait()
    assert protocol.error is None
    ping, create, start = scripted.requests
    assert ping.startswith(b"HEAD /_ping ")
    assert create.startswith(b"POST /v1.51/containers/bk/exec HTTP/1.1\r\n")
    assert create.endswith(
        b'{"AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Cmd": ["buildctl", "dial-stdio"]}'
    )
    assert start.startswith(b"POST /v1.51/exec/a1b/start HTTP/1.1\r\n")
    assert b"\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" in start
    assert start.endswith(b'{"Detach": false, "Tty": false}')
    assert scripted.after == b"PRI *"


FRAMES = frame(b"\0first") + frame(b"a note\n", 2) + frame(b"") + frame(b"second" * 1000) + frame(b"third")
OUTPUT = b"\0first" + b"second" * 1000 + b"third"

CUTS: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole": lambda data: [data],
    "byte by byte": lambda data: [data[i : i + 1] for i in range(len(data))],
    "after the head": lambda data: [data[: data.index(b"\r\n\r\n") + 4], data[data.index(b"\r\n\r\n") + 4 :]],
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("head", [SWITCHED, PLAIN], ids=["101", "200"])
async def test_frames(tmp_path: Path, head: bytes, cut: Callable[[bytes], list[bytes]]) -> None:
    """However they are cut, the output arrives in order, without frames and without standard error."""
    async with engine(tmp_path, *cut(head + FRAMES)) as (endpoint, _):
        program = await connected(endpoint)
    assert program.received == OUTPUT
    assert str(program.error) == "'buildctl dial-stdio' in the container ended: a note"


async def test_buffered_protocol(tmp_path: Path) -> None:
    """A protocol with a buffer of its own gets it in pieces of that size."""
    async with engine(tmp_path, SWITCHED + FRAMES) as (endpoint, _):
        _, protocol = await dial(endpoint, Buffered)
        with anyio.fail_after(10):
            await protocol.lost.wait()
    assert protocol.received == OUTPUT


async def test_pausing_within_a_read(tmp_path: Path) -> None:
    """What one read brought waits for the protocol, and for the next one too, in order."""
    program = Program()
    program.pause_after = 1
    async with engine(tmp_path, SWITCHED, frame(b"\0one") + frame(b"two") + frame(b"three"), hold=True) as (
        endpoint,
        _,
    ):
        transport, _ = await dial(endpoint, lambda: program)
        await program.until(4)
        await anyio.sleep(0.01)
        assert program.received == b"\0one"
        assert not transport.is_reading()
        second = Program()
        second.connection_made(transport)
        second.pause_after = 1
        transport.set_protocol(second)
        transport.resume_reading()
        assert second.received == b"two"
        transport.resume_reading()
        assert second.received == b"twothree"
        assert transport.is_reading()
        transport.abort()
        with anyio.fail_after(10):
            await second.lost.wait()
    assert not program.lost.is_set()


@pytest.mark.parametrize(
    "sent",
    [frame(b"x", 0), frame(b"x", 4), b"\1\0\0\1\0\0\0\1x", b"HTTP/1.1 400", frame(b"\0ok") + b"\xff" * 100],
    ids=["stream 0", "stream 4", "no zeros", "text", "later"],
)
async def test_no_frames(tmp_path: Path, sent: bytes) -> None:
    """What is no frame is a fault of the peer, and the end."""
    async with engine(tmp_path, SWITCHED + sent, hold=True) as (endpoint, _):
        program = await connected(endpoint)
    assert isinstance(program.error, RemoteProtocolError)


async def test_huge_frame(tmp_path: Path) -> None:
    """The length of a frame reserves nothing: what there is of it is passed on as it comes."""
    async with engine(tmp_path, SWITCHED + b"\1\0\0\0\xff\xff\xff\xff", b"\0some", hold=True) as (endpoint, _):
        transport, program = await dial(endpoint, Program)
        await program.until(5)
        transport.abort()
        await program.lost.wait()


async def test_cut_off(tmp_path: Path) -> None:
    """An end inside of a frame is no regular one."""
    async with engine(tmp_path, SWITCHED + frame(b"\0whole")[:-1]) as (endpoint, _):
        program = await connected(endpoint)
    assert isinstance(program.error, ProgramEnded)
    assert "middle of a frame" in str(program.error)


async def test_regular_end(tmp_path: Path) -> None:
    async with engine(tmp_path, SWITCHED + frame(b"\0whole")) as (endpoint, _):
        program = await connected(endpoint)
    assert program.error is None


@pytest.mark.parametrize(
    "created",
    [
        b'HTTP/1.1 404 Not Found\r\nContent-Length: 34\r\n\r\n{"message":"No such container: bk"}',
        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 201 Created\r\nContent-Length: 14\r\n\r\n{"Id":"../../"}',
        b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n" + b"[" * 9,
        b"\0" * 100,
        b"",
    ],
    ids=["404", "no id", "bad id", "no json", "no http", "nothing"],
)
async def test_refusals(tmp_path: Path, created: bytes) -> None:
    async with engine(tmp_path, created=created) as (endpoint, _):
        with pytest.raises(EngineError) as caught:
            await dial(endpoint, Program)
    assert b"404" not in created or "No such container: bk" in str(caught.value)


async def test_refused_start(tmp_path: Path) -> None:
    """Also an answer that frames come in chunks of, which no Engine sends."""
    for head in (
        b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nnope",
        PLAIN[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
    ):
        async with engine(tmp_path, head, hold=True) as (endpoint, scripted):
            with pytest.raises(EngineError, match="refused to run 'buildctl'"):
                await dial(endpoint, Program)
            with anyio.fail_after(10):
                await scripted.hung_up.wait()


async def test_an_address_alone() -> None:
    """Without the Engine that runs it, a container cannot be reached."""
    with pytest.raises(InputError, match="find_endpoint"):
        await dial(Endpoint(ContainerAddress("bk")), Program)


# Real daemons

BUILDCTL = """#!/bin/busybox sh
[ "$*" = dial-stdio ] || exit 7
exec /bin/busybox cat
"""


@contextmanager
def container(daemon: Daemon, reference: ReferenceClient, tmp_path: Path, busybox: Path, script: str) -> Iterator[str]:
    """A running container, in which ``buildctl`` is the script; ends with everything it is made of."""
    name = f"bks-test-{uuid.uuid4().hex[:12]}"
    (tmp_path / "context").mkdir()
    (tmp_path / "context/busybox").write_bytes(busybox.read_bytes())
    (tmp_path / "context/busybox").chmod(0o755)
    (tmp_path / "context/buildctl").write_text(script)
    (tmp_path / "context/buildctl").chmod(0o755)
    (tmp_path / "context/Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/busybox\nCOPY buildctl /bin/buildctl\nCMD ["/bin/busybox", "sleep", "600"]\n'
    )
    reference.build(daemon.address, "--load", "-t", name, tmp_path / "context")

    with reference.environment(daemon.address) as environment:

        def docker(*arguments: str) -> None:
            subprocess.run([reference.docker, *arguments], env=environment, check=True, capture_output=True, timeout=60)

        try:
            docker("run", "-d", "--network=none", "--init=false", "--name", name, name)
            yield name
        finally:
            docker("rm", "-f", name)
            docker("rmi", "-f", name)


async def test_real_container(daemon: Daemon, reference: ReferenceClient, tmp_path: Path, busybox: Path) -> None:
    """Bytes go to a program in a real container and back, and it ends with the connection."""
    data = bytes(range(256)) * 4096
    with container(daemon, reference, tmp_path, busybox, BUILDCTL) as name:
        endpoint = Endpoint(ContainerAddress(name), via=Endpoint(parse_address(daemon.address)))
        assert await probe(endpoint) == BuildkitdFound()
        transport, program = await dial(endpoint, Program)
        transport.write(data)
        await program.until(len(data))
        assert program.received == data
        transport.close()
        with anyio.fail_after(10):
            await program.lost.wait()
        assert program.error is None
        assert await ended(daemon, reference, name)


async def ended(daemon: Daemon, reference: ReferenceClient, name: str) -> bool:
    """Whether nothing but the container's own program runs in it, in the end."""
    with reference.environment(daemon.address) as environment, anyio.move_on_after(10):
        while True:
            top = await anyio.run_process([str(reference.docker), "top", name], env=environment)
            if top.stdout.count(b"busybox") == 1:
                return True
            await anyio.sleep(0.05)
    return False


async def test_real_container_without_buildctl(
    daemon: Daemon, reference: ReferenceClient, tmp_path: Path, busybox: Path
) -> None:
    """What the Engine, or the program, has to say is in the error."""
    with container(daemon, reference, tmp_path, busybox, "#!/bin/none\n") as name:
        endpoint = Endpoint(ContainerAddress(name), via=Endpoint(parse_address(daemon.address)))
        program = await connected(endpoint)
    assert program.received == b""
    assert "buildctl" in str(program.error)
    assert "no such file or directory" in str(program.error)


async def test_real_engine_without_the_container(daemon: Daemon) -> None:
    endpoint = Endpoint(ContainerAddress("bks-test-none"), via=Endpoint(parse_address(daemon.address)))
    with pytest.raises(EngineError, match=r"No such container.*docker ps -a"):
        await dial(endpoint, Program)
