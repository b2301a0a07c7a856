"""One way to a daemon for every kind of address."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from buildkit_session.engine.address import Endpoint, TcpAddress, TlsFiles, UnixSocket, parse_address
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.daemon import Daemon
from buildkit_session.engine.dialing import dial, lead_time
from buildkit_session.errors import EngineUnreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio

PEM = Path(__file__).parent / "pem"
TLS = TlsFiles(PEM / "ca.pem", PEM / "client.pem", PEM / "client-key.pem")


class Listener(asyncio.Protocol):
    """Keeps what arrives until the end."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = asyncio.Event()
        self.error: Exception | None = None

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.lost.set()


async def heard(endpoint: Endpoint, *, alpn: Sequence[str] = ()) -> tuple[asyncio.Transport, Listener]:
    transport, protocol = await dial(endpoint, Listener, alpn=alpn)
    with anyio.fail_after(10):
        await protocol.lost.wait()
    return transport, protocol


async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.close()


async def test_sockets(tmp_path: Path) -> None:
    async with await asyncio.start_unix_server(greet, tmp_path / "s"):
        _, protocol = await heard(Endpoint(UnixSocket(str(tmp_path / "s"))))
        assert protocol.received == b"hello"
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        _, protocol = await heard(Endpoint(TcpAddress("127.0.0.1", server.sockets[0].getsockname()[1])))
        assert protocol.received == b"hello"


@pytest.mark.parametrize(
    ("theirs", "offered", "chosen"), [(["h2"], ["h2", "http/1.1"], "h2"), ([], ["h2"], None), (["h2"], [], None)]
)
async def test_alpn(theirs: list[str], offered: list[str], chosen: str | None) -> None:
    """Protocols are offered in the handshake; a peer that picks none is accepted."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=PEM / "ca.pem")
    context.load_cert_chain(PEM / "server.pem", PEM / "server-key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(theirs) if theirs else None
    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with server:
        endpoint = Endpoint(TcpAddress("127.0.0.1", server.sockets[0].getsockname()[1]), TLS)
        transport, protocol = await heard(endpoint, alpn=offered)
    assert protocol.received == b"hello"
    assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == chosen


async def test_patience() -> None:
    """A peer that accepts and does not answer the handshake is out of reach; nothing stays open."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = Endpoint(TcpAddress("127.0.0.1", silent.getsockname()[1]), TLS)
        with pytest.raises(EngineUnreachable, match="no answer in time"):
            await dial(endpoint, Listener, patience=0.05)
        theirs, _ = silent.accept()
        with theirs:
            theirs.setblocking(False)
            with anyio.fail_after(10):
                while await asyncio.get_running_loop().sock_recv(theirs, 65536):
                    pass  # the handshake it began, and then its end


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("podman-container://bk", "podman exec -i bk buildctl dial-stdio"),
        ("nerdctl-container://bk", "nerdctl exec -i bk buildctl dial-stdio"),
        ("kube-pod://bk?namespace=n", "kubectl --namespace=n exec -i bk -- buildctl dial-stdio"),
    ],
)
async def test_programs(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs of the user's PATH lead to the rest; here they only say how they were called."""
    for name in ("podman", "nerdctl", "kubectl"):
        (tmp_path / name).write_text('#!/bin/sh\necho "${0##*/} $*"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _, protocol = await heard(Endpoint(parse_address(text)))
    assert protocol.received.decode().strip() == words


async def test_a_program_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineUnreachable, match=r"a buildkitd at podman-container://bk .*no program 'podman'"):
        await dial(Endpoint(parse_address("podman-container://bk")), Listener)


@pytest.mark.parametrize(
    ("address", "program"), [("kube-pod://pod", "kubectl"), ("podman-container://box", "podman"), ("ssh://h", "ssh")]
)
async def test_a_program_that_ends_at_once(
    address: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without a cluster: the client says where it wanted to go, and what the program said."""
    (tmp_path / program).write_text("#!/bin/sh\necho no cluster here >&2\nexit 3\n")
    (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(EngineUnreachable, match=rf"at {address} .*'{program}' ended with status 3: no cluster here"):
        await Daemon(find_endpoint(address)).info()


async def test_a_program_is_given_time() -> None:
    """Connecting is the program's affair, and ssh has half a minute for it."""
    far = Endpoint(parse_address("ssh://far"))
    assert lead_time(Endpoint(UnixSocket("/a"))) == lead_time(Endpoint(TcpAddress("h", 1))) == 0
    assert lead_time(far) > 30
    assert lead_time(Endpoint(parse_address("docker-container://bk"), via=far)) == lead_time(far)
    assert lead_time(Endpoint(parse_address("docker-container://bk"), via=Endpoint(UnixSocket("/a")))) == 0
