"""The Engine's REST side: real daemons, and a scripted one for what a real one cannot be made to do."""

from __future__ import annotations

import base64
import errno
import io
import os
import socket
import ssl
import tarfile
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSListener

from buildkit_session.engine.address import Endpoint, TcpAddress, TlsFiles, UnixSocket, parse_address
from buildkit_session.engine.api_version import ApiVersion
from buildkit_session.engine.build_params import BuildParams
from buildkit_session.engine.client import EngineClient
from buildkit_session.engine.events import EngineText, ImageId, ProgressEvent, Vertex, VertexLog
from buildkit_session.engine.faults import unreachable
from buildkit_session.errors import (
    BuildError,
    ConnectionClosed,
    EngineError,
    EngineUnreachable,
    InputError,
    LocalProtocolError,
    RemoteProtocolError,
    UnsupportedError,
)
from buildkit_session.messages.moby.buildkit import v1 as wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buildkit_session.engine.build_stream import BuildStream
    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

PEM = Path(__file__).parent / "pem"

PING = (
    b"HTTP/1.1 200 OK\r\nApi-Version: 1.47\r\nServer: Docker/27 (linux)\r\nOstype: linux\r\nContent-Length: 0\r\n\r\n"
)
BUILD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


END = _chunk(b"")


@dataclass(eq=False)
class ScriptedEngine:
    """Answers each call, such as ``GET /_ping``, with given bytes and hangs up; remembers the requests."""

    answers: dict[str, bytes]
    held: frozenset[str] = frozenset()  # calls whose connection stays open until the client closes it
    requests: list[bytes] = field(default_factory=list)
    hung_up: anyio.Event = field(default_factory=anyio.Event)  # the client closed a held connection

    @property
    def calls(self) -> list[str]:
        return [request.split(b" HTTP/1.1\r\n")[0].decode() for request in self.requests]

    async def serve(self, stream: anyio.abc.ByteStream) -> None:
        async with stream:
            request = bytearray()
            while not request.endswith(b"\r\n\r\n"):
                try:
                    request += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError):
                    return
            self.requests.append(bytes(request))
            call = request.split(b"?")[0].decode().split(" HTTP/")[0]
            await stream.send(self.answers.get(call, PING))
            if call in self.held:
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
                self.hung_up.set()


@asynccontextmanager
async def _scripted(
    answers: dict[str, bytes], *, held: frozenset[str] = frozenset(), headers: dict[str, str] | None = None
) -> AsyncIterator[tuple[ScriptedEngine, EngineClient]]:
    engine = ScriptedEngine(answers, held)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 (that is Django's rule)
    endpoint = Endpoint(TcpAddress("127.0.0.1", port), headers=headers or {})
    async with listener, anyio.create_task_group() as tasks, EngineClient(endpoint) as client:
        tasks.start_soon(listener.serve, engine.serve)
        with anyio.fail_after(30):
            yield engine, client
        tasks.cancel_scope.cancel()


def _params(**changes: object) -> BuildParams:
    return BuildParams(build_id="b1", **changes)  # type: ignore[arg-type]  # a test's shorthand


async def _follow(client: EngineClient, params: BuildParams, body: bytes = b"") -> list[ProgressEvent]:
    async with client.build(params, body=body) as events:
        return [event async for event in events]


async def _exhaust(events: BuildStream) -> None:
    async for _ in events:
        pass


# Real daemons


def _client(daemon: Daemon) -> EngineClient:
    return EngineClient(Endpoint(parse_address(daemon.address)))


def _real(**changes: object) -> BuildParams:
    return BuildParams(build_id=uuid.uuid4().hex, remote="", network="none", **changes)  # type: ignore[arg-type]


def _context(dockerfile: str, busybox: Path) -> bytes:
    file = io.BytesIO()
    # Engines tell a tar from a Dockerfile by its first 1024 bytes, which a pax header alone exceeds.
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(busybox, "busybox")
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile.encode()))
    return file.getvalue()


async def test_ping(daemon: Daemon) -> None:
    """The Engine says what it is, and the version it speaks is part of every path."""
    async with _client(daemon) as client:
        info = await client.ping()

        assert ApiVersion(1, 40) <= info.api_version <= info.newest_api == ApiVersion.parse(daemon.api_version)
        assert info.os_type == "linux"
        assert daemon.version in info.server
        assert await client.path("/session") == f"/v{info.api_version}/session"


async def test_an_object(daemon: Daemon) -> None:
    """A short call gives what the Engine says; what it refuses is an error with its words."""
    async with _client(daemon) as client:
        assert (await client.get("/info"))["ServerVersion"] == daemon.version
        with pytest.raises(EngineError, match=r"No such image: nothing") as caught:
            await client.get("/images/nothing/json")
    assert caught.value.status == 404


async def test_build(daemon: Daemon) -> None:
    """A build that succeeds ends the iteration, with the image among the events."""
    async with _client(daemon) as client:
        events = await _follow(client, _real(), b"FROM scratch\nENV a=b\n")

    steps = {event.name: event for event in events if isinstance(event, Vertex)}
    image = [event.id for event in events if isinstance(event, ImageId)]
    assert steps["exporting to image"].completed is not None
    assert image[0].startswith("sha256:")


async def test_failing_build(daemon: Daemon, busybox: Path) -> None:
    """A build that fails raises with the step and the end of its output."""
    dockerfile = """FROM scratch
        COPY busybox /busybox
        RUN ["/busybox", "sh", "-c", "echo one; echo two >&2; exit 7"]"""

    async with _client(daemon) as client:
        with pytest.raises(BuildError, match="exit code: 7") as caught:
            await _follow(client, _real(no_cache=True), _context(dockerfile, busybox))

    assert caught.value.step is not None
    assert 'RUN ["/busybox", "sh", "-c"' in caught.value.step.name
    assert sorted(caught.value.step.log) == ["one", "two"]


async def test_dockerfile_error(daemon: Daemon) -> None:
    """A Dockerfile that cannot be read fails the build; no output is needed for that."""
    async with _client(daemon) as client:
        with pytest.raises(BuildError, match="unknown instruction: NONSENSE"):
            await _follow(client, _real(), b"FROM scratch\nNONSENSE\n")


async def test_refused_build(daemon: Daemon) -> None:
    """What the Engine refuses before the build carries its status and its text."""
    async with _client(daemon) as client:
        with pytest.raises(EngineError, match=r"refused POST /v1\.\d+/build: .*a,b.* \(HTTP 400\)") as caught:
            await _follow(client, _real(platform="a,b"))

    assert caught.value.status == 400


async def test_cancel_by_id(daemon: Daemon, busybox: Path) -> None:
    """A build cancelled by its id fails; cancelling it again is no error."""
    params, body = _endless(busybox)
    async with _client(daemon) as client:
        async with client.build(params, body=body) as events:
            while not isinstance(await anext(events), VertexLog):
                pass
            await client.cancel(params.build_id)
            with pytest.raises(BuildError, match="cancel"):
                await _exhaust(events)
        await client.cancel(params.build_id)


async def test_leaving_stops_the_daemon(daemon: Daemon, busybox: Path) -> None:
    """When the Python task is cancelled, the process of the running step ends."""
    params, body = _endless(busybox)
    with anyio.fail_after(30):
        async with _client(daemon) as client:
            with anyio.CancelScope() as scope:
                async with client.build(params, body=body) as events:
                    while not isinstance(await anext(events), VertexLog):
                        pass
                    step = _watch_process(params.build_id)
                    scope.cancel()
                    await _exhaust(events)
            assert scope.cancelled_caught
            try:
                await anyio.wait_readable(step)  # a process descriptor is readable once the process has ended
            finally:
                os.close(step)


def _endless(busybox: Path) -> tuple[BuildParams, bytes]:
    params = _real()
    step = f'RUN ["/busybox", "sh", "-c", "echo up; while :; do /busybox sleep 1; done", "{params.build_id}"]'
    return params, _context(f"FROM scratch\nCOPY busybox /busybox\n{step}", busybox)


def _watch_process(mark: str) -> int:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                return os.pidfd_open(int(process.name))
        except OSError:
            continue  # it ended meanwhile
    pytest.skip("the processes of this daemon cannot be seen from here")


# Ping


async def test_ping_is_asked_once() -> None:
    """The first answer is kept; nothing is opened for the second."""
    async with _scripted({}) as (engine, client):
        assert await client.ping() is await client.ping()
        assert engine.calls == ["HEAD /_ping"]


async def test_ping_falls_back_to_get() -> None:
    """Where HEAD is refused, GET is tried."""
    refusal = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
    async with _scripted({"HEAD /_ping": refusal}) as (engine, client):
        assert (await client.ping()).newest_api == ApiVersion(1, 47)
        assert engine.calls == ["HEAD /_ping", "GET /_ping"]


async def test_newer_engine() -> None:
    """Of an Engine newer than this library the newest known version is spoken."""
    async with _scripted({"HEAD /_ping": PING.replace(b"1.47", b"1.99")}) as (_, client):
        info = await client.ping()

        assert info.newest_api == ApiVersion(1, 99)
        assert info.api_version == ApiVersion(1, 51)


async def test_pinned_version() -> None:
    """A pinned version is spoken, whatever the Engine says."""
    async with _scripted({}) as (_, client):
        client.endpoint = Endpoint(client.endpoint.address, api_version=ApiVersion(1, 55))

        assert await client.path("/build") == "/v1.55/build"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (PING.replace(b"1.47", b"1.39"), "Docker/27 .* speaks 1.39"),
        (PING.replace(b"Api-Version: 1.47\r\n", b""), "Docker/27 .* speaks 1.24"),
    ],
)
async def test_old_engine(answer: bytes, found: str) -> None:
    """An Engine that is too old is named with what it speaks."""
    async with _scripted({"HEAD /_ping": answer}) as (_, client):
        with pytest.raises(UnsupportedError, match=rf"1\.40 .* is needed; {found}"):
            await client.ping()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found",
        PING.replace(b"1.47", b"9" * 5000 + b".1"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 100_000,
        b"HTTP/1.1 500 Oh\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000,
    ],
)
async def test_no_engine(answer: bytes) -> None:
    """Whatever else answers is an error of bounded length."""
    async with _scripted({"HEAD /_ping": answer, "GET /_ping": answer}) as (_, client):
        with pytest.raises(EngineError) as caught:
            await client.ping()

    assert not isinstance(caught.value, EngineUnreachable)
    assert len(str(caught.value)) < 8192


async def test_hangs_up() -> None:
    """A connection that closes without an answer is an error of the connection."""
    async with _scripted({"HEAD /_ping": b""}) as (_, client):
        with pytest.raises(ConnectionClosed, match="broke off"):
            await client.ping()


async def test_silence() -> None:
    """An Engine that accepts and never answers counts as out of reach."""
    async with _scripted({"HEAD /_ping": b""}, held=frozenset({"HEAD /_ping"})) as (_, client):
        impatient = EngineClient(client.endpoint, timeout=0.01)
        async with impatient:
            with pytest.raises(EngineUnreachable, match="no answer in time"):
                await impatient.ping()


# Out of reach


async def test_no_socket(tmp_path: Path) -> None:
    """The error names the address, where it came from, the reason and what to try."""
    endpoint = Endpoint(UnixSocket(str(tmp_path / "none.sock")), source="$DOCKER_HOST")
    async with EngineClient(endpoint) as client:
        with pytest.raises(EngineUnreachable) as caught:
            await client.ping()

    text = str(caught.value)
    assert f"unix://{tmp_path}/none.sock (from $DOCKER_HOST): No such file or directory" in text
    assert "name another address, such as unix:///path/to/docker.sock" in text


async def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that nobody listens on is refused."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("dead.sock")
        async with EngineClient(Endpoint(UnixSocket("dead.sock"))) as client:
            with pytest.raises(EngineUnreachable, match="Connection refused"):
                await client.ping()


async def test_path_is_too_long(tmp_path: Path) -> None:
    """A socket path above the limit of the system is out of reach, not a crash."""
    async with EngineClient(Endpoint(UnixSocket(str(tmp_path / ("x" * 200))))) as client:
        with pytest.raises(EngineUnreachable, match="too long"):
            await client.ping()


async def test_no_host() -> None:
    """A port without a listener and a name without an address are out of reach."""
    for address in (TcpAddress("127.0.0.1", 1), TcpAddress("no-such-host.invalid", 2375)):
        async with EngineClient(Endpoint(address)) as client:
            with pytest.raises(EngineUnreachable, match="firewall"):
                await client.ping()


def test_no_permission() -> None:
    """Without the right to open the socket, the group and sudo are mentioned."""
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    text = str(unreachable(Endpoint(UnixSocket("/run/docker.sock")), denied))

    assert "Permission denied" in text
    assert "docker" in text
    assert "sudo" in text


async def test_outside_of_its_block() -> None:
    """A client that was not entered is a mistake of the caller."""
    with pytest.raises(LocalProtocolError, match="async with"):
        await EngineClient(Endpoint(UnixSocket("/a"))).ping()


# TLS


@asynccontextmanager
async def _tls_engine() -> AsyncIterator[TcpAddress]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=PEM / "ca.pem")
    context.load_cert_chain(PEM / "server.pem", PEM / "server-key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = tcp.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 (that is Django's rule)
    async with TLSListener(tcp, context, standard_compatible=False) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, ScriptedEngine({}).serve)
        yield TcpAddress("127.0.0.1", port)
        tasks.cancel_scope.cancel()


def _tls(**changes: Path | bool | None) -> TlsFiles:
    files: dict[str, Path | bool | None] = {
        "ca": PEM / "ca.pem",
        "cert": PEM / "client.pem",
        "key": PEM / "client-key.pem",
    }
    return TlsFiles(**{**files, **changes})  # type: ignore[arg-type]  # a test's shorthand


@pytest.mark.parametrize("tls", [_tls(), _tls(ca=None, verify=False)], ids=["verified", "not verified"])
async def test_tls(tls: TlsFiles) -> None:
    """The files of the endpoint prove both sides to each other; without verifying, the server proves nothing."""
    async with _tls_engine() as address, EngineClient(Endpoint(address, tls)) as client:
        assert (await client.ping()).newest_api == ApiVersion(1, 47)


async def test_tls_unknown_authority() -> None:
    """A server that is not trusted is out of reach, and the TLS settings are mentioned."""
    async with _tls_engine() as address, EngineClient(Endpoint(address, _tls(ca=None))) as client:
        with pytest.raises(EngineUnreachable, match="DOCKER_CERT_PATH"):
            await client.ping()


@pytest.mark.parametrize(
    ("tls", "why"),
    [
        (_tls(key=PEM / "client-key-encrypted.pem"), "encrypted"),
        (_tls(ca=PEM / "gone.pem"), r"gone\.pem"),
        (_tls(key=PEM / "server-key.pem"), r"server-key\.pem"),
    ],
)
async def test_tls_unusable_files(tls: TlsFiles, why: str) -> None:
    """TLS files that cannot be used are named before anything is opened."""
    async with EngineClient(Endpoint(TcpAddress("127.0.0.1", 1), tls)) as client:
        with pytest.raises(InputError, match=why):
            await client.ping()


# The answer to POST /build


def _trace(**parts: object) -> bytes:
    data = base64.b64encode(bytes(wire.StatusResponse(**parts))).decode()  # type: ignore[arg-type]
    return b'{"id":"moby.buildkit.trace","aux":"%s"}\r\n' % data.encode()


STEP = wire.Vertex(digest="d", name="RUN x")
TEXT = b'{"stream":"hello"}\r\n'
FAILURE = b'{"errorDetail":{"message":"it broke"},"error":"it broke"}\r\n'


async def test_request() -> None:
    """The request is what the Engine expects of a build that a session serves."""
    async with _scripted({"POST /v1.47/build": BUILD + END}, headers={"X-Team": "a", "Accept-Encoding": "gzip"}) as (
        engine,
        client,
    ):
        assert await _follow(client, _params(session="s")) == []

        lines = engine.requests[1].decode().split("\r\n")
        assert lines[0] == "POST /v1.47/build?version=2&buildid=b1&session=s&remote=client-session HTTP/1.1"
        assert {"Content-Length: 0", "X-Team: a", "Accept-Encoding: identity"} <= set(lines)
        assert not any(line.lower().startswith("content-type") for line in lines)


async def test_base_path() -> None:
    """The path of an address goes before the path of every call."""
    async with _scripted({"POST /engines/a/v1.47/build": BUILD + END}) as (engine, client):
        address = client.endpoint.address
        assert isinstance(address, TcpAddress)
        async with EngineClient(Endpoint(TcpAddress(address.host, address.port, "/engines/a"))) as below:
            await _follow(below, _params())

        assert [call.split("?")[0] for call in engine.calls] == ["HEAD /engines/a/_ping", "POST /engines/a/v1.47/build"]


async def test_events_before_the_failure() -> None:
    """Events that came before the failure are delivered; the failure is raised again and again."""
    answer = BUILD + _chunk(TEXT + _trace(vertexes=[STEP]) + FAILURE) + END
    async with _scripted({"POST /v1.47/build": answer}) as (engine, client):
        async with client.build(_params()) as events:
            assert [await anext(events), await anext(events)] == [EngineText("hello"), Vertex("d", "RUN x")]
            for _ in range(2):
                with pytest.raises(BuildError, match="it broke"):
                    await anext(events)

        assert len(engine.calls) == 2  # nothing was left to cancel


@pytest.mark.parametrize(
    "answer",
    [
        BUILD,
        BUILD + _chunk(TEXT),
        BUILD + _chunk(TEXT)[:-5],
        BUILD + _chunk(TEXT[:-5]) + END,
        BUILD.replace(b"Transfer-Encoding: chunked", b"Content-Length: 100") + TEXT,
        BUILD.replace(b"Transfer-Encoding: chunked\r\n", b"") + TEXT,
        BUILD.replace(b"Transfer-Encoding: chunked\r\n", b""),
    ],
)
async def test_cut_off(answer: bytes) -> None:
    """An answer that was cut off is never success, whatever way it is delimited."""
    async with _scripted({"POST /v1.47/build": answer}) as (_, client):
        with pytest.raises(ConnectionClosed):
            await _follow(client, _params())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (_chunk(b"<html>\r\n") + END, RemoteProtocolError),
        (_chunk(b'{"id":"moby.buildkit.trace","aux":"?"}\r\n') + END, RemoteProtocolError),
        (b"zz\r\n", EngineError),
    ],
)
async def test_garbage(body: bytes, error: type[Exception]) -> None:
    """An answer that no Engine gives is never success."""
    async with _scripted({"POST /v1.47/build": BUILD + body}) as (_, client):
        with pytest.raises(error):
            await _follow(client, _params())


async def test_unknown_status() -> None:
    """Only 200 starts a build; an odd status with a good body does not."""
    answer = BUILD.replace(b"200 OK", b"202 Accepted") + END
    async with _scripted({"POST /v1.47/build": answer}) as (_, client):
        with pytest.raises(EngineError) as caught:
            await _follow(client, _params())

    assert caught.value.status == 202


@pytest.mark.parametrize(
    ("body", "why"),
    [(b"", "without a JSON object"), (b"[]", "without a JSON object"), (b" " * (4 << 20), "bytes or more")],
)
async def test_no_object(body: bytes, why: str) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with _scripted({"GET /v1.47/info": answer}) as (_, client):
        with pytest.raises(EngineError, match=rf"answered GET .*/info .*{why}"):
            await client.get("/info")


async def test_further_fields() -> None:
    async with _scripted({"GET /v1.47/info": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"}) as (engine, client):
        await client.get("/info", headers={"X-Registry-Auth": "e30="})
    assert b"\r\nX-Registry-Auth: e30=\r\n" in engine.requests[-1]


# Cancelling

CANCEL = "POST /v1.47/build/cancel?id=b1"


async def test_finished_build_is_not_cancelled() -> None:
    """A build that ended is left alone."""
    async with _scripted({"POST /v1.47/build": BUILD + _chunk(TEXT) + END}) as (engine, client):
        await _follow(client, _params())

        assert CANCEL not in engine.calls


@pytest.mark.parametrize("answer", [b"", BUILD + _chunk(TEXT)], ids=["before the answer", "within the answer"])
async def test_cancelled_task(answer: bytes) -> None:
    """A cancelled task closes the connection and tells the Engine, wherever it waited."""
    call = "POST /v1.47/build"
    async with (
        _scripted({call: answer}, held=frozenset({call})) as (engine, client),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_follow, client, _params())
        await anyio.wait_all_tasks_blocked()
        while len(engine.requests) < 2:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()

        with anyio.CancelScope(shield=True):
            await engine.hung_up.wait()
    assert engine.calls[2:] == [CANCEL]


async def _leave_early(client: EngineClient) -> None:
    async with client.build(_params()) as events:
        await anext(events)
        raise ZeroDivisionError


async def test_leaving_early() -> None:
    """Leaving the block cancels the build, and the exception that left it survives."""
    call = "POST /v1.47/build"
    async with _scripted({call: BUILD + _chunk(TEXT)}, held=frozenset({call})) as (engine, client):
        with pytest.raises(ZeroDivisionError):
            await _leave_early(client)

        await engine.hung_up.wait()
        assert engine.calls[2:] == [CANCEL]


async def test_refused_cancellation() -> None:
    """An Engine that refuses the cancellation does not hide why the block was left; asked for, it is an error."""
    refusal = b'HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n{"message":"no way"}'
    answers = {"POST /v1.47/build": BUILD + _chunk(TEXT), "POST /v1.47/build/cancel": refusal}
    async with _scripted(answers) as (engine, client):
        with pytest.raises(ConnectionClosed, match="broke off"):
            await _follow(client, _params())
        assert engine.calls[2:] == [CANCEL]

        with pytest.raises(EngineError, match="no way"):
            await client.cancel("b1")
