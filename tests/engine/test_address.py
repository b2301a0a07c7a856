"""Addresses of Engines."""

from __future__ import annotations

import pytest

from buildkit_session.engine.address import (
    Address,
    ContainerAddress,
    Endpoint,
    PodAddress,
    SshAddress,
    TcpAddress,
    UnixSocket,
    parse_address,
)
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
        ("ssh://h", SshAddress("h")),
        ("ssh://Me@Build-Box:2222", SshAddress("Build-Box", "Me", 2222)),
        ("ssh://h/", SshAddress("h")),
        ("ssh://a%40b@[::1]/run/user/1/docker%20x.sock", SshAddress("::1", "a@b", None, "/run/user/1/docker x.sock")),
        ("docker-container://bk", ContainerAddress("bk")),
        ("docker-container://Bk.1_x?context=far+away", ContainerAddress("Bk.1_x", "far away")),
        ("podman-container://bk", ContainerAddress("bk", program="podman")),
        ("nerdctl-container://bk", ContainerAddress("bk", program="nerdctl")),
        ("kube-pod://pod-1", PodAddress("pod-1")),
        ("kube-pod://p?context=c%2F1&namespace=n&container=bk", PodAddress("p", "c/1", "n", "bk")),
    ],
)
def test_forms(text: str, address: Address) -> None:
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
        "ssh://",
        "ssh://user:password@h",
        "ssh://-oProxyCommand=evil",
        "ssh://-l@h",
        "ssh://h:",
        "ssh://h:0",
        "ssh://h:x",
        "ssh://h?query",
        "ssh://h/#fragment",
        "ssh://h\n-x",
        "ssh://h/a%00b",
        "ssh://a%20b@h",
        "docker-container://",
        "docker-container://-x",
        "docker-container://a/b",
        "docker-container://a?contxt=b",
        "docker-container://a?context",
        "podman-container://a?context=b",
        "kube-pod://P",
        "kube-pod://--help",
        "kube-pod://p?namespace=-n",
        "kube-pod://p?deployment=d",
    ],
)
def test_bad_forms(text: str) -> None:
    """What is no address is refused with its origin and the right form."""
    with pytest.raises(InputError, match=r"from \$DOCKER_HOST is no address of a daemon .*unix:///path"):
        parse_address(text, source="$DOCKER_HOST")


def test_bare_path() -> None:
    """A path without a scheme is answered with the address it must be."""
    with pytest.raises(InputError, match=r"is written unix:///run/docker\.sock"):
        parse_address("/run/docker.sock")


@pytest.mark.parametrize(
    ("text", "instead"),
    [("npipe:////./pipe/docker_engine", "WSL"), ("fd://", "unix://")],
)
def test_transports_that_are_missing(text: str, instead: str) -> None:
    """A transport that there is none for is refused with what to do instead."""
    with pytest.raises(UnsupportedError, match=instead):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "unix:///a",
        "tcp://h:1/base",
        "tcp://[::1]:2375",
        "https://h:443",
        "ssh://a%40b@[::1]:22/a%20b",
        "ssh://Host",
        "docker-container://a?context=b+c",
        "podman-container://a",
        "kube-pod://p?context=c&namespace=n&container=d",
    ],
)
def test_prints_as_it_reads(text: str) -> None:
    """An address prints as a text that reads as the same address."""
    assert str(parse_address(text)) == text


def test_endpoint_hides_headers() -> None:
    """Custom headers may hold credentials, so no repr shows them."""
    assert "s3cret" not in repr(Endpoint(UnixSocket("/a"), headers={"Authorization": "s3cret"}))
