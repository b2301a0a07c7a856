"""What listens at an address: real Engines, and peers that answer as others do."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from buildkit_session.engine.address import Endpoint, TcpAddress, TlsFiles, UnixSocket, parse_address
from buildkit_session.engine.api_version import ApiVersion
from buildkit_session.engine.info import EngineInfo
from buildkit_session.engine.ping import BuildkitdFound, PodmanFound, ping, probe
from buildkit_session.errors import ConnectionClosed, EngineError, EngineUnreachable, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

PEM = Path(__file__).parent / "pem"
TLS = TlsFiles(PEM / "ca.pem", PEM / "client.pem", PEM / "client-key.pem")

ENGINE = b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nServer: Docker/28.5.2 (linux)\r\nBuilder-Version: 2\r\n\r\n"
PODMAN = (
    b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nBuildkit-Version: \r\nBuilder-Version: 1\r\nLibpod-Api-Version: 5.4.2\r\n"
    b"Ostype: linux\r\nServer: Libpod/5.4.2 (linux)\r\n\r\n"
)
SETTINGS = b"\0\0\6\4\0\0\0\0\0" + b"\0\5\0\0\x40\0"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@asynccontextmanager
async def peer(tmp_path: Path, answer: Callable[[bytes], bytes]) -> AsyncIterator[Endpoint]:
    """A server that answers what it read with ``answer`` of it, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(request))
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "s"):
        yield Endpoint(UnixSocket(str(tmp_path / "s")))


async def test_an_engine(daemon: Daemon) -> None:
    """A real Engine is recognised, and what it says is read."""
    endpoint = Endpoint(parse_address(daemon.address))
    found = await probe(endpoint)
    assert isinstance(found, EngineInfo)
    assert found == await ping(endpoint)
    assert found.newest_api == ApiVersion.parse(daemon.api_version)
    assert daemon.version in found.server


async def test_podman(tmp_path: Path) -> None:
    """Podman answers as an Engine does, but runs no BuildKit: asked for an Engine, the error says what to do."""
    async with peer(tmp_path, lambda _: PODMAN) as endpoint:
        assert await probe(endpoint) == PodmanFound("Libpod/5.4.2 (linux)")
        with pytest.raises(UnsupportedError, match="podman-container://buildkitd"):
            await ping(endpoint)


async def test_a_buildkitd(tmp_path: Path) -> None:
    """A buildkitd opens HTTP/2, whatever it was sent; asked for an Engine, the error names it."""
    async with peer(tmp_path, lambda _: SETTINGS) as endpoint:
        assert await probe(endpoint) == BuildkitdFound()
        with pytest.raises(EngineError, match="buildkitd"):
            await ping(endpoint)


async def test_a_buildkitd_that_hangs_up(tmp_path: Path) -> None:
    """A peer that hangs up on HTTP/1.1 is asked again in HTTP/2."""
    async with peer(tmp_path, lambda request: SETTINGS if request.startswith(b"PRI * HTTP/2.0") else b"") as endpoint:
        assert await probe(endpoint) == BuildkitdFound()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ConnectionClosed),
        (b"SSH-2.0-OpenSSH_9.2\r\n", EngineError),
        (b"\0" * 64, EngineError),
        (b"\0\0\6\4\0\0\0\0\1" + b"\0" * 6, EngineError),
        (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnop\r\n1\r\ne\r\n0\r\n\r\n", EngineError),
    ],
    ids=["nothing", "ssh", "zeros", "settings of a stream", "404"],
)
async def test_neither(tmp_path: Path, answer: bytes, error: type[Exception]) -> None:
    """What is neither is an error."""
    async with peer(tmp_path, lambda _: answer) as endpoint:
        with pytest.raises(error) as caught:
            await probe(endpoint)
    assert not isinstance(caught.value, EngineUnreachable)
    assert b"404" not in answer or "is an HTTP server but no Docker Engine (HTTP 404" in str(caught.value)


async def test_a_file_that_is_no_socket(tmp_path: Path) -> None:
    """The system says that the connection was refused, as if nobody listened."""
    (tmp_path / "file").touch()
    with pytest.raises(EngineUnreachable, match="it is no socket"):
        await probe(Endpoint(UnixSocket(str(tmp_path / "file"))))


async def test_head_is_refused(tmp_path: Path) -> None:
    """Where HEAD is refused, GET is asked."""
    refusal = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
    async with peer(tmp_path, lambda request: refusal if request.startswith(b"HEAD") else ENGINE) as endpoint:
        found = await probe(endpoint)
    assert isinstance(found, EngineInfo)
    assert found.builder == "2"


async def test_silence(tmp_path: Path) -> None:
    """A peer that says nothing is out of reach once patience ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(EngineUnreachable, match=r"no answer in time\. Something listens there"):
            await probe(Endpoint(UnixSocket(str(tmp_path / "s"))), patience=0.02)


@pytest.mark.parametrize("alpn", [[], ["http/1.1"], ["h2", "http/1.1"]], ids=["none", "http/1.1", "both"])
async def test_tls_engine(alpn: list[str]) -> None:
    """Also behind a proxy that would rather speak HTTP/2, as an Engine's upgrades need HTTP/1.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=PEM / "ca.pem")
    context.load_cert_chain(PEM / "server.pem", PEM / "server-key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(alpn)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ENGINE)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert isinstance(await probe(Endpoint(TcpAddress("127.0.0.1", port), TLS)), EngineInfo)


@contextmanager
def h2_only() -> Iterator[TcpAddress]:
    """A TLS server that ends a handshake in which h2 is not offered, as those written in Go do."""
    program = shutil.which("openssl") or pytest.skip("there is no openssl program")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "s_server", "-accept", f"127.0.0.1:{port}", "-alpn", "h2", "-Verify", "1", "-CAfile", "ca.pem"]
    files = ["-cert", "server.pem", "-key", "server-key.pem"]
    with subprocess.Popen([*command, *files], cwd=PEM, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            while b"ACCEPT" not in (line := server.stdout.readline()):
                assert line, "openssl s_server did not start"
            yield TcpAddress("127.0.0.1", port)
        finally:
            server.kill()


async def test_tls_buildkitd() -> None:
    """A server that ends the handshake for want of h2 is a buildkitd."""
    with h2_only() as address:
        assert await probe(Endpoint(address, TLS)) == BuildkitdFound()


async def test_tls_unknown_authority() -> None:
    """A server that is not trusted is no buildkitd, but out of reach."""
    with h2_only() as address, pytest.raises(EngineUnreachable, match="certificate"):
        await probe(Endpoint(address, TlsFiles(cert=TLS.cert, key=TLS.key)))


@pytest.mark.parametrize(("name", "right"), [("localhost", True), ("elsewhere.example", False)])
async def test_tls_server_name(name: str, right: bool) -> None:
    """The name that a certificate must show can be given."""
    with h2_only() as address:
        endpoint = Endpoint(address, TlsFiles(TLS.ca, TLS.cert, TLS.key, server_name=name))
        if right:
            assert await probe(endpoint) == BuildkitdFound()
        else:
            with pytest.raises(EngineUnreachable, match=r"elsewhere\.example"):
                await probe(endpoint)
