"""The clients that build: which command does it, in which environment.

bollard is a library: ``programs/bollard`` makes a command of it, which ``make bench`` compiles where there is a cargo.
"""

from __future__ import annotations

import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.results import OURS
from buildkit_session.testing import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from benchmarks.loads import Order
    from benchmarks.workbench import Workbench

__all__ = ["BOLLARD", "BUILDX", "BuildClient", "bollard_version", "build_clients"]

BUILDX: Final = "docker buildx"
BOLLARD: Final = "bollard"

ROOT: Final = Path(__file__).parent.parent
BOLLARD_PROGRAM: Final = ROOT / "out/bollard/release/bollard-build"
BOLLARD_LOCK: Final = ROOT / "benchmarks/programs/bollard/Cargo.lock"

COMMON: Final = ("build", "--progress=plain", "--network=none")
"""The clients draw their progress for a log, which is what they do where nobody watches."""


@dataclass(frozen=True, slots=True, eq=False)
class BuildClient:
    """A command line client; all take the flags of ``docker buildx build``.

    Attributes:
        sends_files: whether it sends a context through a session.
    """

    name: str
    program: tuple[str, ...]
    environment: Mapping[str, str]
    sends_files: bool = True

    def build(self, order: Order) -> list[str]:
        """The command of a build."""
        return [*self.program, *COMMON, "--output", order.output, "--file", order.file, order.context]

    def build_image(self, tag: str, file: Path, context: Path) -> list[str]:
        """The command of a build whose result stays with the daemon."""
        return [*self.program, *COMMON, "--tag", tag, "--file", str(file), str(context)]


def build_clients(bench: Workbench, stack: ExitStack) -> tuple[list[BuildClient], dict[str, object]]:
    """The clients for the daemon, ours first, and why others are missing.

    Raises:
        Unavailable: there is no daemon.
    """
    bench.daemon()
    own = {**_plain_environment(), "DOCKER_HOST": bench.address}
    clients = [BuildClient(OURS, (sys.executable, "-m", "buildkit_session"), own)]
    missing: dict[str, object] = {}
    try:
        reference = bench.reference()
    except Unavailable as reason:
        missing[BUILDX] = reason
    else:
        theirs = stack.enter_context(reference.environment(bench.address))
        clients.append(BuildClient(BUILDX, (str(reference.docker), "buildx"), theirs))
    if BOLLARD_PROGRAM.exists():
        clients.append(BuildClient(BOLLARD, (str(BOLLARD_PROGRAM),), own, sends_files=False))
    else:
        missing[BOLLARD] = "not compiled: make bench does so where there is a cargo"
    return clients, missing


def bollard_version() -> str | None:
    """The version of bollard that was compiled, if it was."""
    if not BOLLARD_PROGRAM.exists() or not BOLLARD_LOCK.exists():
        return None
    packages = tomllib.loads(BOLLARD_LOCK.read_text())["package"]
    return next((str(package["version"]) for package in packages if package["name"] == "bollard"), None)


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDKIT_"))}
