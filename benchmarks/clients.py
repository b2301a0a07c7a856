"""The clients that build: which command does it, in which environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.results import OURS
from buildkit_session.testing import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack
    from pathlib import Path

    from benchmarks.loads import Order
    from benchmarks.workbench import Workbench

__all__ = ["BUILDX", "BuildClient", "build_clients"]

BUILDX: Final = "docker buildx"

COMMON: Final = ("build", "--progress=plain", "--network=none")
"""Both clients draw their progress for a log, which is what they do where nobody watches."""


@dataclass(frozen=True, slots=True, eq=False)
class BuildClient:
    """A command line client; all take the flags of ``docker buildx build``."""

    name: str
    program: tuple[str, ...]
    environment: Mapping[str, str]

    def build(self, order: Order) -> list[str]:
        """The command of a build."""
        return [*self.program, *COMMON, "--output", order.output, "--file", order.file, order.context]

    def build_image(self, tag: str, file: Path, context: Path) -> list[str]:
        """The command of a build whose result stays with the daemon."""
        return [*self.program, *COMMON, "--tag", tag, "--file", str(file), str(context)]


def build_clients(bench: Workbench, stack: ExitStack) -> tuple[list[BuildClient], Unavailable | None]:
    """The clients for the daemon, and why buildx is none of them.

    Raises:
        Unavailable: there is no daemon.
    """
    bench.daemon()
    address = bench.address
    own = {**_plain_environment(), "DOCKER_HOST": address}
    clients = [BuildClient(OURS, (sys.executable, "-m", "buildkit_session"), own)]
    try:
        reference = bench.reference()
    except Unavailable as reason:
        return clients, reason
    theirs = stack.enter_context(reference.environment(address))
    clients.append(BuildClient(BUILDX, (str(reference.docker), "buildx"), theirs))
    return clients, None


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDKIT_"))}
