"""Addresses of Engines."""

from __future__ import annotations

import pytest

from buildkit_session.engine.address import Endpoint, TcpAddress, UnixSocket, parse_address
from buildkit_session.errors import InputError, UnsupportedError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/docker.sock", UnixSocket("/run/docker.sock")),
        ("unix://", UnixSocket("/var/run/docker.sock")),
        ("unix://here.sock", UnixSocket("here.sock")),
        ("unix:///with%20percent sign", UnixSocket("/with%20percent sign")),
        ("tcp://build.example:1234", TcpAddress("build.example", 1234)),
        ("tcp://build.example", TcpAddress("build.example", 2375)),
        ("tcp://", TcpAddress("localhost", 2375)),
        ("tcp://:4000", TcpAddress("localhost", 4000)),
        ("tcp://h:1/engines/a/", TcpAddress("h", 1, "/engines/a")),
        ("tcp://[::1]:2375", TcpAddress("::1", 2375)),
        ("TCP://h:1", TcpAddress("h", 1)),
        ("  tcp://h:1\n", TcpAddress("h", 1)),
        ("10.0.0.1:2375", TcpAddress("10.0.0.1", 2375)),
        ("[::1]:2375", TcpAddress("::1", 2375)),
        ("http://h", TcpAddress("h", 80, "", "http")),
        ("https://h/base", TcpAddress("h", 443, "/base", "https")),
    ],
)
def test_forms(text: str, address: UnixSocket | TcpAddress) -> None:
    """Every accepted form means what docker means by it."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "default",
        "tcp://h:port",
        "tcp://h:0",
        "tcp://h:",
        "tcp://h:65536",
        "tcp://user:password@h:1",
        "tcp://h:1?query",
        "tcp://h:1/#fragment",
        "tcp://a b:1",
        "tcp://[::1:1",
        "gopher://h",
        "unix:/run/docker.sock",
        "unix://a\0b",
    ],
)
def test_bad_forms(text: str) -> None:
    """What is no address is refused with its origin and the right form."""
    with pytest.raises(InputError, match=r"from \$DOCKER_HOST is not an Engine address .*unix:///path"):
        parse_address(text, source="$DOCKER_HOST")


def test_bare_path() -> None:
    """A path without a scheme is answered with the address it must be."""
    with pytest.raises(InputError, match=r"is written unix:///run/docker\.sock"):
        parse_address("/run/docker.sock")


@pytest.mark.parametrize(
    ("text", "instead"),
    [("ssh://me@host", "ssh -nNT -L"), ("npipe:////./pipe/docker_engine", "WSL"), ("fd://", "unix://")],
)
def test_transports_to_come(text: str, instead: str) -> None:
    """A transport that does not exist yet is refused with what to do now."""
    with pytest.raises(UnsupportedError, match=instead):
        parse_address(text)


@pytest.mark.parametrize("text", ["unix:///a", "tcp://h:1/base", "tcp://[::1]:2375", "https://h:443"])
def test_prints_as_it_reads(text: str) -> None:
    """An address prints as a text that reads as the same address."""
    assert str(parse_address(text)) == text


def test_endpoint_hides_headers() -> None:
    """Custom headers may hold credentials, so no repr shows them."""
    assert "s3cret" not in repr(Endpoint(UnixSocket("/a"), headers={"Authorization": "s3cret"}))
