"""What starting up may load: a program that only imports, asks for help or builds does not pay for what it leaves."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon

HEAVY = {"aiohttp", "anyio", "asyncio", "betterproto2", "h2", "ssl"}

# A class or function of the public API, and the root of the exceptions: what programs import first.
LIGHT_NAMES = ["SessionError", "BuildError", "Vertex", "ProgressEvent", "output"]


def last_words(script: str) -> list[str]:
    """Run ``script`` in a fresh interpreter; return the words of the last line of its standard error."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1].split()


def loaded_by(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after ``code``."""
    return set(last_words(f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"))


def command(*words: str) -> set[str]:
    return loaded_by(f"from buildkit_session.cli import main\nmain({list(words)!r})")


def test_the_package_loads_nothing_of_its_own_but_itself() -> None:
    loaded = loaded_by("import buildkit_session")
    assert [name for name in loaded if name.startswith("buildkit_session")] == ["buildkit_session"]
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", LIGHT_NAMES)
def test_values_load_without_the_client(name: str) -> None:
    loaded = loaded_by(f"import buildkit_session\nbuildkit_session.{name}")
    assert not loaded & {*HEAVY, "buildkit_session.client"}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["build", "--help"], ["plan", "--help"], ["bulid"]])
def test_help_and_mistakes_load_no_client(words: list[str]) -> None:
    assert not command(*words) & {*HEAVY, "buildkit_session.client"}


@pytest.mark.parametrize(("arguments", "tuned"), [("", True), ("['--version']", False)])
def test_only_a_process_of_our_own_has_its_collector_tuned(arguments: str, tuned: bool) -> None:
    """A program that hands arguments to ``main`` keeps its settings."""
    said = last_words(
        "import gc, sys; from buildkit_session.cli import main; sys.argv = ['x', '--version']\n"
        "before = gc.get_threshold()\n"
        f"main({arguments}); print(gc.get_threshold() != before, gc.get_freeze_count() > 0, file=sys.stderr)"
    )
    assert said == [str(tuned), str(tuned)]


def test_a_client_does_without_what_only_some_builds_need() -> None:
    """Neither what writes exports nor the schema of the Control API."""
    loaded = loaded_by("from buildkit_session import connect\nconnect('unix:///nowhere')")
    assert "buildkit_session.client" in loaded
    assert not loaded & {"buildkit_session.services.targets", "buildkit_session.messages.moby.buildkit.v1"}


def test_the_usual_progress_does_without_the_schema() -> None:
    schema = "buildkit_session.messages.moby.buildkit.v1"
    code = "from buildkit_session.engine.progress import decode_status\ndecode_status({!r})"
    step = b"\n\x03\n\x01v"
    warning = b'"\x03\n\x01v'
    assert schema not in loaded_by(code.format(step))
    assert schema in loaded_by(code.format(warning))


UNASKED = {
    "fractions",
    "urllib.request",
    *(f"buildkit_session.engine.{name}" for name in ("capabilities", "gateway", "solve_error", "tunnel", "web")),
    *(f"buildkit_session.messages.{name}" for name in ("grpc.health.v1", "moby.buildkit.v1.frontend", "pb.ops")),
    *(f"buildkit_session.request.{name}" for name in ("named_context", "remote_context", "secret", "ssh", "ulimit")),
    *(f"buildkit_session.services.{name}" for name in ("auth_calls", "filesend", "health", "token_fetch", "tokens")),
    "buildkit_session.plan",
    "buildkit_session.planning",
}
"""What the start of a plain build once paid for, and nothing in such a build asks for."""


def test_a_plain_build_loads_no_more_than_it_needs(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    words = ["-H", daemon.address, "build", "--network=none", "-t", "plain", str(tmp_path)]
    loaded = command(*words)
    assert {"buildkit_session.engine.solving", "buildkit_session.fsutil.sender"} <= loaded  # a build has run
    assert not loaded & UNASKED
