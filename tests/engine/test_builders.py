"""Builders of buildx: the files as the real buildx writes them, and what else they may hold."""

from __future__ import annotations

import json
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from buildkit_session.engine.address import ContainerAddress, PodAddress, SshAddress, TcpAddress, TlsFiles, UnixSocket
from buildkit_session.engine.builders import Builder, find_builder
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buildkit_session.testing import Daemon, ReferenceClient


class Home:
    """A home directory with buildx's files in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.docker = path / ".docker"
        self.buildx = self.docker / "buildx"
        (self.buildx / "instances").mkdir(parents=True)
        (self.buildx / "defaults").mkdir()

    def environ(self, **variables: str) -> dict[str, str]:
        return {"HOME": str(self.path), "DOCKER_HOST": "tcp://engine", **variables}

    def context(self, name: str, host: str) -> None:
        folder = self.docker / "contexts/meta" / sha256(name.encode()).hexdigest()
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))

    def builder(self, name: str, driver: str = "remote", **node: object) -> None:
        record = {"Name": f"{name}0", "Endpoint": "tcp://bk:1234", "Platforms": None, "DriverOpts": None, "Flags": None}
        group = {"Name": name, "Driver": driver, "Nodes": [{**record, **node}], "Dynamic": False}
        (self.buildx / "instances" / name.lower()).write_text(json.dumps(group))

    def choose(self, name: str, key: str, *, everywhere: bool = False) -> None:
        (self.buildx / "current").write_text(json.dumps({"Key": key, "Name": name, "Global": everywhere}))

    def prefer(self, name: str, key: str) -> None:
        (self.buildx / "defaults" / sha256(key.encode()).hexdigest()[:20]).write_text(name)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


KEY = "tcp://engine:2375"


def test_nothing_chosen(home: Home) -> None:
    """Without a choice it is the builder of the docker context."""
    found = find_builder(environ=home.environ())
    assert found.name == "default"
    assert found.driver == "docker"
    assert found.is_context
    assert found.nodes[0].endpoint.address == TcpAddress("engine", 2375)
    assert not found.nodes[0].endpoint.is_buildkitd


def test_no_state_at_all(tmp_path: Path) -> None:
    found = find_builder(environ={"HOME": str(tmp_path), "DOCKER_HOST": "unix:///d"})
    assert found.nodes[0].endpoint.address == UnixSocket("/d")


@pytest.mark.parametrize(
    ("prepare", "name"),
    [
        (lambda home: home.choose("One", KEY), "One"),
        (lambda home: home.choose("one", "elsewhere"), "default"),
        (lambda home: home.choose("one", "elsewhere", everywhere=True), "One"),
        (lambda home: home.choose("gone", "elsewhere", everywhere=True), "default"),
        (lambda home: home.choose("gone", KEY), "default"),
        (lambda home: home.choose("", KEY), "default"),
        (lambda home: home.prefer("one", KEY), "One"),
        (lambda home: home.prefer("one", "elsewhere"), "default"),
        (lambda home: home.prefer("../one", KEY), "default"),
        (lambda home: (home.choose("gone", KEY), home.prefer("one", KEY)), "default"),
        (lambda home: (home.choose("gone", KEY, everywhere=True), home.prefer("one", KEY)), "default"),
        (lambda home: (home.choose("two", "elsewhere"), home.prefer("one", KEY)), "One"),
    ],
)
def test_choices(home: Home, prepare: Callable[[Home], object], name: str) -> None:
    """A choice counts for every context, or for the one it was made in."""
    home.builder("One")
    home.builder("two")
    prepare(home)
    assert find_builder(environ=home.environ()).name == name


def test_a_choice_in_a_context(home: Home) -> None:
    """In a context that has a name, choices are kept by that."""
    home.builder("one")
    home.context("far", "ssh://far")
    home.choose("one", "far")
    environ = {"HOME": str(home.path), "DOCKER_CONTEXT": "far"}
    assert find_builder(environ=environ).name == "one"
    home.choose("", "far")
    assert find_builder(environ=environ).nodes[0].endpoint.address == SshAddress("far")


def test_a_name_goes_before_choices(home: Home) -> None:
    """First the argument, then the variable; names match in any case."""
    for name in ("one", "two", "three"):
        home.builder(name)
    home.choose("one", KEY, everywhere=True)
    assert find_builder(environ=home.environ(BUILDX_BUILDER="TWO")).name == "two"
    assert find_builder("three", environ=home.environ(BUILDX_BUILDER="two")).name == "three"
    assert find_builder("default", environ=home.environ()).is_context


def test_buildx_config(home: Home, tmp_path: Path) -> None:
    """Buildx's own directory can be elsewhere."""
    home.builder("one")
    environ = {"HOME": "/none", "DOCKER_HOST": "unix:///d", "BUILDX_CONFIG": str(home.buildx)}
    assert find_builder("one", environ=environ).name == "one"


@pytest.mark.parametrize("name", ["gone", "../current", "-x", "a/b", "a b"])
def test_no_builder(home: Home, name: str) -> None:
    with pytest.raises(InputError, match=r"no builder .* found in .*docker buildx ls"):
        find_builder(name, environ=home.environ())


def test_the_builder_of_another_context(home: Home) -> None:
    """It is refused with what makes it the current one."""
    home.context("far", "ssh://far")
    with pytest.raises(InputError, match="DOCKER_CONTEXT=far"):
        find_builder("far", environ=home.environ())
    found = find_builder("far", environ={"HOME": str(home.path), "DOCKER_CONTEXT": "far"})
    assert found.nodes[0].endpoint.address == SshAddress("far")


def test_container(home: Home) -> None:
    """The container of a node runs at an address, or in a docker context."""
    home.context("far", "ssh://far")
    platforms = [{"architecture": "arm", "os": "linux", "variant": "v7"}, {"architecture": "amd64", "os": "linux"}]
    home.builder(
        "one", "docker-container", Endpoint="far", Platforms=platforms, Flags=["--debug"], DriverOpts={"image": "x"}
    )
    node = find_builder("one", environ=home.environ()).nodes[0]
    assert node.endpoint.address == ContainerAddress("buildx_buildkit_one0")
    assert node.endpoint.is_buildkitd
    assert node.endpoint.via is not None
    assert node.endpoint.via.address == SshAddress("far")
    assert node.platforms == ("linux/arm/v7", "linux/amd64")
    assert node.flags == ("--debug",)
    assert node.options == {"image": "x"}

    home.builder("two", "docker-container", Endpoint="unix:///d")
    via = (
        find_builder("two", environ=home.environ(DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH="/none")).nodes[0].endpoint.via
    )
    assert via is not None
    assert via.address == UnixSocket("/d")


def test_remote(home: Home) -> None:
    """A buildkitd's own address, with mutual TLS where the options say so."""
    home.builder("plain")
    endpoint = find_builder("plain", environ=home.environ()).nodes[0].endpoint
    assert (endpoint.address, endpoint.tls, endpoint.buildkitd) == (TcpAddress("bk", 1234), None, True)
    assert str(endpoint) == "tcp://bk:1234 (from builder 'plain' of buildx)"

    home.builder("tls", DriverOpts={"cacert": "/a", "cert": "/b", "key": "/c", "servername": "d", "default-load": "1"})
    endpoint = find_builder("tls", environ=home.environ()).nodes[0].endpoint
    assert endpoint.tls == TlsFiles(Path("/a"), Path("/b"), Path("/c"), server_name="d")

    home.builder("ssh", Endpoint="ssh://me@h/s")
    endpoint = find_builder("ssh", environ=home.environ()).nodes[0].endpoint
    assert (endpoint.address, endpoint.is_buildkitd) == (SshAddress("h", "me", path="/s"), True)

    home.builder("container", Endpoint="docker-container://bk")
    endpoint = find_builder("container", environ=home.environ()).nodes[0].endpoint
    assert endpoint.address == ContainerAddress("bk")
    assert endpoint.via == find_endpoint(environ=home.environ())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cert": "/b", "key": "/c"}, "cacert"),
        ({"cacert": "/a", "cert": "/b"}, "cert and key together"),
        ({"servername": "x"}, "cacert"),
        ({"cacert": "a"}, "absolute paths, unlike 'a'"),
    ],
)
def test_remote_with_half_of_tls(home: Home, options: dict[str, str], text: str) -> None:
    home.builder("one", DriverOpts=options)
    with pytest.raises(InputError, match=text):
        find_builder("one", environ=home.environ())


def test_kubernetes(home: Home) -> None:
    """The deployment is named for the node; kubectl is to choose among its pods."""
    text = "kubernetes:///one?deployment=one_0&kubeconfig=%2Fhome%2Fk"
    home.builder("one", "kubernetes", Name="one_0", Endpoint=text, DriverOpts={"namespace": "n"})
    endpoint = find_builder("one", environ=home.environ()).nodes[0].endpoint
    assert endpoint.address == PodAddress("deployment/one-0", namespace="n", kubeconfig="/home/k")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{", InputError),
        ("[]", InputError),
        ('{"Name": "one", "Driver": "remote", "Nodes": []}', InputError),
        ('{"Name": "one", "Driver": "remote", "Nodes": [3]}', InputError),
        ('{"Name": "one", "Driver": "remote", "Nodes": {}}', InputError),
        ('{"Name": "one", "Driver": "remote", "Nodes": [{"Endpoint": "nonsense"}]}', InputError),
        ('{"Name": "one", "Driver": "remote", "Nodes": [{"Endpoint": "https://h"}]}', InputError),
        ('{"Name": "one", "Driver": "remote", "Nodes": [{"Endpoint": "npipe://x"}]}', UnsupportedError),
        ('{"Name": "one", "Driver": "cloud", "Nodes": [{}]}', UnsupportedError),
    ],
)
def test_unusable_records(home: Home, content: str, error: type[Exception]) -> None:
    (home.buildx / "instances/one").write_text(content)
    with pytest.raises(error):
        find_builder("one", environ=home.environ())


# The real buildx


@pytest.fixture
def buildx(reference: ReferenceClient, daemon: Daemon) -> Iterator[tuple[Callable[..., str], dict[str, str]]]:
    """``docker buildx`` with a state of its own, and the environment that it and we see."""
    with reference.environment(daemon.address) as environment:
        seen = dict(environment)

        def run(*arguments: str) -> str:
            command = [str(reference.docker), "buildx", *arguments]
            done = subprocess.run(command, env=seen, check=True, capture_output=True, text=True, timeout=60)
            return done.stdout

        yield run, seen


def test_what_buildx_writes(buildx: tuple[Callable[..., str], dict[str, str]], daemon: Daemon) -> None:
    """Builders that the real buildx has made, and its choices among them, are found as it finds them."""
    run, environ = buildx

    def agreed() -> Builder:
        found = find_builder(environ=environ)
        assert run("inspect").splitlines()[0].split()[1] == found.name
        return found

    assert agreed().is_context

    run(
        "create",
        "--name",
        "Box",
        "--driver",
        "docker-container",
        "--buildkitd-flags",
        "--debug",
        "--platform",
        "linux/arm/v7",
    )
    box = find_builder("box", environ=environ)
    assert box.driver == "docker-container"
    assert "--debug" in box.nodes[0].flags
    assert box.nodes[0].platforms == ("linux/arm/v7",)
    assert box.nodes[0].endpoint.via is not None
    assert str(box.nodes[0].endpoint.via.address) == daemon.address

    run("use", "Box")
    assert agreed() == box
    run("use", "default")
    assert agreed().is_context
    run("use", "--global", "Box")
    assert agreed() == box
    environ["BUILDX_BUILDER"] = "default"
    assert agreed().is_context
