"""Which Engine is meant."""

from __future__ import annotations

import json
import socket
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from buildkit_session.engine import contexts
from buildkit_session.engine.address import ContainerAddress, SshAddress, TcpAddress, TlsFiles, UnixSocket
from buildkit_session.engine.api_version import ApiVersion
from buildkit_session.engine.contexts import find_context, find_endpoint
from buildkit_session.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path


class Home:
    """A home directory with docker's files in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.docker = path / ".docker"
        self.docker.mkdir()

    def environ(self, **variables: str) -> dict[str, str]:
        return {"HOME": str(self.path), **variables}

    def config(self, **entries: object) -> None:
        (self.docker / "config.json").write_text(json.dumps(entries))

    def context(self, name: str, meta: object) -> None:
        folder = self.docker / "contexts/meta" / sha256(name.encode()).hexdigest()
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps(meta))

    def pem(self, folder: Path, *names: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / f"{name}.pem").write_text("")

    def tls_of(self, name: str) -> Path:
        return self.docker / "contexts/tls" / sha256(name.encode()).hexdigest() / "docker"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home directory, on a machine without an Engine at the default socket."""
    monkeypatch.setattr(contexts, "DEFAULT_SOCKET", str(tmp_path / "no.sock"))
    return Home(tmp_path)


def _endpoints(host: str, **more: object) -> dict[str, object]:
    return {"Name": "x", "Endpoints": {"docker": {"Host": host, **more}}}


def test_order(home: Home) -> None:
    """Each way of naming an Engine beats all that come after it."""
    for name in ("env", "file"):
        home.context(name, _endpoints(f"tcp://{name}:1"))
    home.config(currentContext="file")
    host, context = {"DOCKER_HOST": "tcp://host:1"}, {"DOCKER_CONTEXT": "env"}

    found = [
        find_endpoint("tcp://argument:1", environ=home.environ(**host, **context)),
        find_endpoint(environ=home.environ(**host, **context)),
        find_endpoint(environ=home.environ(**context)),
        find_endpoint(environ=home.environ()),
        find_endpoint(environ={"HOME": str(home.path), "DOCKER_CONFIG": "/nonexistent"}),
    ]

    assert [str(endpoint) for endpoint in found] == [
        "tcp://argument:1 (from the address argument)",
        "tcp://host:1 (from $DOCKER_HOST)",
        "tcp://env:1 (from docker context 'env' ($DOCKER_CONTEXT))",
        "tcp://file:1 (from docker context 'file')",
        f"unix://{home.path}/no.sock (from the default socket)",
    ]


def test_default_context_is_no_file(home: Home) -> None:
    """``DOCKER_CONTEXT=default`` means no context, whatever config.json says."""
    home.config(currentContext="gone")

    assert find_endpoint(environ=home.environ(DOCKER_CONTEXT="default")).source == "the default socket"


@pytest.mark.parametrize("how", ["environment", "file"])
def test_missing_context(home: Home, how: str) -> None:
    """A named context that does not exist is an error, never another Engine."""
    home.config(currentContext="gone" if how == "file" else "")

    with pytest.raises(InputError, match="no docker context 'gone'"):
        find_endpoint(environ=home.environ(DOCKER_CONTEXT="gone" if how == "environment" else ""))


def test_keys_in_any_case(home: Home) -> None:
    """Context files and config.json are read without regard to the case of their keys."""
    home.config(CURRENTCONTEXT="x")
    home.context("x", {"endpoints": {"Docker": {"HOST": "tcp://h:1", "skiptlsverify": True}}})

    endpoint = find_endpoint(environ=home.environ())

    assert (endpoint.address, endpoint.tls) == (TcpAddress("h", 1), TlsFiles(verify=False))


def test_context_tls_material(home: Home) -> None:
    """TLS files in the context store switch TLS on."""
    home.context("x", _endpoints("tcp://h:1"))
    folder = home.tls_of("x")
    home.pem(folder, "ca", "cert", "key")

    endpoint = find_endpoint(environ=home.environ(DOCKER_CONTEXT="x"))

    assert endpoint.tls == TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem", verify=True)


def test_context_without_host(home: Home) -> None:
    """A context that names no host means the default socket."""
    home.context("x", {"Endpoints": {}})

    assert find_endpoint(environ=home.environ(DOCKER_CONTEXT="x")).address == UnixSocket("/var/run/docker.sock")


def test_context_over_ssh(home: Home) -> None:
    """A context may lead to another machine."""
    home.context("far", _endpoints("ssh://me@Far:22"))

    endpoint = find_endpoint(environ=home.environ(DOCKER_CONTEXT="far"))
    assert endpoint.address == SshAddress("Far", "me", 22)
    assert endpoint.address == find_context("far", environ=home.environ()).address
    assert not endpoint.is_buildkitd


def test_context_without_transport(home: Home) -> None:
    """A context with a transport that there is none for is named in the refusal."""
    home.context("windows", _endpoints("npipe:////./pipe/docker_engine"))

    with pytest.raises(UnsupportedError, match="docker context 'windows'"):
        find_endpoint(environ=home.environ(DOCKER_CONTEXT="windows"))


def test_container_of_the_current_engine(home: Home) -> None:
    """The address of a container leads through the Engine that docker would use, with its TLS settings and headers."""
    home.context("far", _endpoints("ssh://far"))
    environ = home.environ(DOCKER_CONTEXT="far", DOCKER_API_VERSION="1.44")

    endpoint = find_endpoint("docker-container://bk", environ=environ)
    assert endpoint.address == ContainerAddress("bk")
    assert endpoint.is_buildkitd
    assert endpoint.via == find_endpoint(environ=environ)


def test_container_of_a_context(home: Home) -> None:
    """The context of the address goes before the variables."""
    home.context("far", _endpoints("ssh://far"))

    endpoint = find_endpoint("docker-container://bk?context=far", environ=home.environ(DOCKER_HOST="tcp://h:1"))
    assert endpoint.via is not None
    assert endpoint.via.address == SshAddress("far")
    with pytest.raises(InputError, match="no docker context 'gone'"):
        find_endpoint("docker-container://bk?context=gone", environ=home.environ())


def test_buildkitd_where_docker_wants_an_engine(home: Home) -> None:
    """DOCKER_HOST names an Engine; a container's address there would lead to itself."""
    with pytest.raises(InputError, match=r"\$DOCKER_HOST names a buildkitd"):
        find_endpoint(environ=home.environ(DOCKER_HOST="docker-container://bk"))


def test_tls_of_the_caller(home: Home) -> None:
    """Settings that are passed replace those of the environment; where no TLS is spoken they are a mistake."""
    tls = TlsFiles(server_name="bk.example")
    environ = home.environ(DOCKER_TLS_VERIFY="1")
    (home.docker / "ca.pem").touch()

    assert find_endpoint("tcp://h:1", tls=tls, environ=environ).tls == tls
    for address in ("unix:///a", "http://h", "ssh://h"):
        with pytest.raises(InputError, match="without TLS"):
            find_endpoint(address, tls=tls, environ=environ)


@pytest.mark.parametrize("content", ["{", "[]", '{"currentContext": 3}', '{"HttpHeaders": {"A": 1}}', "\udcff"])
def test_unusable_config(home: Home, content: str) -> None:
    """A config.json that cannot be used is an error that names the file."""
    (home.docker / "config.json").write_text(content, errors="surrogateescape")

    with pytest.raises(InputError, match=r"config\.json"):
        find_endpoint(environ=home.environ())


@pytest.mark.parametrize(
    ("variables", "verify"),
    [
        ({"DOCKER_TLS_VERIFY": "0"}, True),
        ({"DOCKER_TLS": "1"}, False),
        ({"DOCKER_TLS_VERIFY": "1", "DOCKER_TLS": "1"}, True),
    ],
)
def test_tls_variables(home: Home, variables: dict[str, str], verify: bool) -> None:
    """Any text in ``DOCKER_TLS_VERIFY`` means TLS that verifies, ``0`` included."""
    home.pem(home.docker, "ca")

    endpoint = find_endpoint("tcp://h", environ=home.environ(**variables))

    assert (endpoint.address, endpoint.tls) == (TcpAddress("h", 2375), TlsFiles(home.docker / "ca.pem", verify=verify))


def test_tls_without_host(home: Home) -> None:
    """TLS without a host means the TLS port of this machine."""
    home.pem(home.path / "certs", "ca", "cert", "key")

    endpoint = find_endpoint(environ=home.environ(DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(home.path / "certs")))

    assert endpoint.address == TcpAddress("localhost", 2376)
    assert endpoint.tls is not None
    assert endpoint.tls.key == home.path / "certs/key.pem"


def test_tls_needs_an_authority(home: Home) -> None:
    """TLS without ca.pem is an error that says where it was looked for."""
    with pytest.raises(InputError, match=r"\.docker/ca\.pem is missing: set DOCKER_CERT_PATH"):
        find_endpoint("tcp://h:1", environ=home.environ(DOCKER_TLS_VERIFY="1"))


def test_tls_half_a_certificate(home: Home) -> None:
    """A client certificate without its key is an error."""
    home.pem(home.docker, "ca", "cert")

    with pytest.raises(InputError, match="only one of"):
        find_endpoint("tcp://h:1", environ=home.environ(DOCKER_TLS_VERIFY="1"))


@pytest.mark.parametrize("address", ["unix:///a", "http://h:1"])
def test_tls_is_ignored(home: Home, address: str) -> None:
    """Sockets and plain HTTP take no notice of the TLS variables, not even of missing files."""
    assert find_endpoint(address, environ=home.environ(DOCKER_TLS_VERIFY="1")).tls is None


def test_https_without_files(home: Home) -> None:
    """``https://`` without TLS variables trusts the authorities of the system."""
    assert find_endpoint("https://h", environ=home.environ()).tls == TlsFiles()


@pytest.mark.parametrize("where", ["run/docker.sock", ".docker/run/docker.sock", ".docker/desktop/docker.sock"])
def test_rootless_sockets(home: Home, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an Engine at the default socket a rootless one is found."""
    path = home.path / where
    path.parent.mkdir(parents=True)
    monkeypatch.chdir(path.parent)  # a socket's name is short, its path may not be
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)

        endpoint = find_endpoint(environ=home.environ(XDG_RUNTIME_DIR=str(home.path / "run")))

    assert endpoint.address == UnixSocket(str(path))


def test_default_socket_goes_first(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Engine at the default socket beats a rootless one."""
    monkeypatch.chdir(home.path)
    (home.docker / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as rootless:
        listener.bind("no.sock")
        rootless.bind(".docker/run/docker.sock")

        assert find_endpoint(environ=home.environ()).source == "the default socket"


def test_headers_of_the_file(home: Home) -> None:
    """Headers of config.json go with every request, but not ``User-Agent``."""
    home.config(HttpHeaders={"X-Team": "a", "user-agent": "docker"})

    assert find_endpoint("tcp://h:1", environ=home.environ()).headers == {"X-Team": "a"}


def test_headers_of_the_environment(home: Home) -> None:
    """``DOCKER_CUSTOM_HEADERS`` is a CSV record and replaces the headers of config.json."""
    home.config(HttpHeaders={"X-Team": "a"})
    variables = {"DOCKER_CUSTOM_HEADERS": 'X-One=1,"X-Two=a,b=c",X-Empty='}

    assert find_endpoint("tcp://h:1", environ=home.environ(**variables)).headers == {
        "X-One": "1",
        "X-Two": "a,b=c",
        "X-Empty": "",
    }


@pytest.mark.parametrize("record", ["X-One", "=1", "X One=1", '"X-One=a\r\nX-Two: b"', "a=1\nb=2", "é=1"])
def test_bad_headers(home: Home, record: str) -> None:
    """A record that is malformed or would smuggle a header is refused."""
    with pytest.raises(InputError, match="DOCKER_CUSTOM_HEADERS"):
        find_endpoint("tcp://h:1", environ=home.environ(DOCKER_CUSTOM_HEADERS=record))


@pytest.mark.parametrize("text", ["1.44", "v1.44"])
def test_pinned_version(home: Home, text: str) -> None:
    """``DOCKER_API_VERSION`` pins the API version."""
    assert find_endpoint("tcp://h:1", environ=home.environ(DOCKER_API_VERSION=text)).api_version == ApiVersion(1, 44)


@pytest.mark.parametrize("text", ["latest", "1", "1.44.1", "1." + "9" * 5000])
def test_bad_pinned_version(home: Home, text: str) -> None:
    """A version that is none is an error that names the variable."""
    with pytest.raises(InputError, match="DOCKER_API_VERSION"):
        find_endpoint("tcp://h:1", environ=home.environ(DOCKER_API_VERSION=text))


def test_people_are_told_where_the_address_came_from() -> None:
    assert find_endpoint("tcp://h:1", source="--host").source == "--host"
    assert find_endpoint("docker-container://b", source="--host").source == "--host"
    with pytest.raises(InputError, match=r"'foo' from --host is no address of a daemon.*docker-container://"):
        find_endpoint("foo", source="--host")
