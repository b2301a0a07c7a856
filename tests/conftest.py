"""Real daemons and the reference client for every test that asks for them.

A test that takes ``daemon`` runs once per supported Docker, or once against ``$DOCKER_HOST``. What cannot be had skips
the test with the reason; with ``CI=true`` it fails it, so that a green run there has tested everything.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn, TypeVar

import pytest
from tricky_cases import CASES, LATER

from buildkit_session.testing import (
    BuilderContainer,
    Buildkitd,
    Daemon,
    DaemonUnavailable,
    ReferenceClient,
    Registry,
    Sshd,
    Store,
    Unavailable,
    Wanted,
    busybox,
    daemon_at,
    forward,
    reference_client,
    start_builder_container,
    start_buildkitd,
    start_daemon,
    start_registry,
    start_sshd,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_T = TypeVar("_T")

_PRIVATE: dict[str, tuple[Wanted, Store]] = {
    "docker-20.10": ("20.10", "classic"),
    "docker-newest": ("newest", "classic"),
    "docker-containerd": ("newest", "containerd"),
    "docker-built": ("built", "classic"),
}
_HOST = "docker-host"
_NAMES = [_HOST] if os.environ.get("DOCKER_HOST") else ["docker-20.10", "docker-newest"]
_NEED_A_DAEMON = {
    *("buildkitd", "builder_container", "c8d_daemon", "daemon", "daemons", "forwarded", "native_daemon"),
    *("private_daemons", "reference", "registry", "private_registry"),
}


class Daemons:
    """The daemons of this test run, each started when a test first asks for it; a failure is remembered as well."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._started: dict[str, Daemon | DaemonUnavailable] = {}

    def get(self, name: str) -> Daemon:
        if name not in self._started:
            self._started[name] = self._start(name)
        found = self._started[name]
        if isinstance(found, DaemonUnavailable):
            raise found
        return found

    def close(self) -> None:
        self._stack.close()

    def report(self) -> Iterator[str]:
        """Say for each daemon asked for which version ran, or why none did."""
        for name, found in self._started.items():
            if isinstance(found, Daemon):
                yield f"{name}: {found.version} (API {found.api_version}), {found.origin}"
                yield from (f"    passed over: {reason}" for reason in found.passed_over)
            else:
                yield f"{name}: none: {found}"

    def _start(self, name: str) -> Daemon | DaemonUnavailable:
        try:
            if name == _HOST:
                return daemon_at(os.environ["DOCKER_HOST"], origin="DOCKER_HOST")
            wanted, store = _PRIVATE[name]
            return self._stack.enter_context(start_daemon(wanted, store=store))
        except DaemonUnavailable as reason:
            return reason


_DAEMONS = pytest.StashKey[Daemons]()


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts its background jobs with SIGINT ignored, and the programs that tests interrupt would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_DAEMONS] = Daemons()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_DAEMONS].close()


def pytest_report_header() -> str:
    return f"daemons: {', '.join(_NAMES)} (started when first needed; versions at the end)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = list(config.stash[_DAEMONS].report())
    if lines:
        terminalreporter.section("daemons")
        for line in lines:
            terminalreporter.line(line)
    if "tricky" in config.option.markexpr:
        _list_tricky_cases(terminalreporter)


def _list_tricky_cases(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("tricky cases")
    outcomes: dict[int, Counter[str]] = {number: Counter() for number in CASES}
    for outcome in ("passed", "skipped", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            for name, value in getattr(report, "user_properties", ()):  # a module that failed or was skipped has none
                if name == "tricky":
                    outcomes[value][outcome] += 1
    for number, counts in outcomes.items():
        text = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or LATER.get(number, "not run")
        terminalreporter.line(f"{number:2} {CASES[number]}: {text}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and _NEED_A_DAEMON.intersection(item.fixturenames):
            item.add_marker("daemon")
        # A report carries these, and so does a JUnit file, but not the arguments of a mark.
        item.user_properties += [("tricky", mark.args[0]) for mark in item.iter_markers("tricky")]


def _missing(reason: Unavailable) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"must not be missing in CI: {reason}", pytrace=False)
    pytest.skip(str(reason))


def _have(find: Callable[[], _T]) -> _T:
    try:
        return find()
    except Unavailable as reason:
        _missing(reason)


@pytest.fixture(scope="session")
def daemons(pytestconfig: pytest.Config) -> Daemons:
    """All daemons of this run, by name; for tests that compare two."""
    return pytestconfig.stash[_DAEMONS]


@pytest.fixture(scope="session", params=_NAMES)
def daemon(request: pytest.FixtureRequest, daemons: Daemons) -> Daemon:
    """One supported daemon after the other; shared by all tests, so leave nothing behind that another could notice."""
    return _have(lambda: daemons.get(request.param))


@pytest.fixture(scope="session")
def engine_named(daemons: Daemons) -> Callable[[str], Daemon]:
    """Any daemon of this run by its name, for tests that choose among them."""
    return lambda name: _have(lambda: daemons.get(name))


@pytest.fixture(scope="session")
def c8d_daemon(engine_named: Callable[[str], Daemon]) -> Daemon:
    """The newest daemon with containerd's image store: several outputs, oci, cache export and attestations."""
    return engine_named("docker-containerd")


@pytest.fixture(scope="session")
def native_daemon(engine_named: Callable[[str], Daemon]) -> Daemon:
    """A daemon newer than any package, which speaks HTTP/2 on its own socket."""
    return engine_named("docker-built")


@pytest.fixture(scope="session")
def buildkitd() -> Iterator[Buildkitd]:
    """A BuildKit daemon without Docker; on a unix socket, and on TCP with mutual TLS."""
    with ExitStack() as stack:
        yield _have(lambda: stack.enter_context(start_buildkitd(tcp=True)))


@pytest.fixture(scope="session")
def forwarded(daemon: Daemon) -> Iterator[str]:
    """The address of a stand-in for buildkitd: the BuildKit inside each supported daemon."""
    with forward(daemon.address) as address:
        yield address


@pytest.fixture(scope="session")
def builder_container(engine_named: Callable[[str], Daemon]) -> Iterator[BuilderContainer]:
    """BuildKit in a container of an Engine, as buildx has it for its own builders."""
    with ExitStack() as stack:
        address = engine_named("docker-newest").address
        yield _have(lambda: stack.enter_context(start_builder_container(address)))


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A registry on loopback that everybody may push to; shared by all tests, so take names of your own."""
    with ExitStack() as stack:
        yield _have(lambda: stack.enter_context(start_registry()))


@pytest.fixture(scope="session")
def private_registry() -> Iterator[Registry]:
    """A registry on loopback that wants a user and a password."""
    with ExitStack() as stack:
        yield _have(lambda: stack.enter_context(start_registry(authenticated=True)))


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    """An ssh server on loopback of the test's own."""
    with ExitStack() as stack:
        yield _have(lambda: stack.enter_context(start_sshd()))


@pytest.fixture(scope="session")
def private_daemons() -> None:
    """Private daemons can be started here: one has been."""
    with ExitStack() as stack:
        _have(lambda: stack.enter_context(start_daemon()))


@pytest.fixture
def private_daemon(private_daemons: None) -> Iterator[Daemon]:
    """A daemon of the test's own, to be harmed; listens on TCP too."""
    with start_daemon(tcp=True) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def reference() -> ReferenceClient:
    """The docker CLI with buildx, to compare with."""
    return _have(reference_client)


@pytest.fixture(scope="session", name="busybox")
def static_busybox() -> Path:
    """A program that runs in an empty image."""
    return _have(busybox)


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, the loop the library is written for."""
    return "asyncio"
