"""The docker CLI with buildx, to compare results and timings with."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.testing.dockerd import moving_suites, suite_folder
from buildkit_session.testing.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ReferenceClient", "reference_client"]


@dataclass(frozen=True, slots=True)
class ReferenceClient:
    """A docker CLI and its buildx plugin, started with a configuration of their own and without network.

    Attributes:
        docker: the CLI.
        buildx: the plugin.
        version: of the plugin, as it says itself.
    """

    docker: Path
    buildx: Path
    version: str

    def build(
        self, address: str, *arguments: str | Path, check: bool = True, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker buildx build`` with plain progress and network ``none``.

        Args:
            address: of the daemon, as for ``DOCKER_HOST``.
            arguments: flags and the context.
            check: raise where the build fails.
            timeout: seconds.

        Returns:
            The finished process; its ``stderr`` is the progress.

        Raises:
            subprocess.CalledProcessError: the build failed and ``check`` is set.
            subprocess.TimeoutExpired: it took longer; the client has been ended.
        """
        with self.environment(address) as environment:
            return subprocess.run(
                [self.docker, "buildx", "build", "--progress=plain", "--network=none", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=check,
            )

    @contextmanager
    def environment(self, address: str) -> Iterator[Mapping[str, str]]:
        """Give an environment in which ``docker buildx`` is this plugin and reads nobody's settings."""
        with tempfile.TemporaryDirectory(prefix="bks-docker-") as home:
            plugins = Path(home, "cli-plugins")
            plugins.mkdir()
            (plugins / "docker-buildx").symlink_to(self.buildx)
            yield {
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": home,
                "DOCKER_CONFIG": home,
                "DOCKER_HOST": address,
            }


def reference_client() -> ReferenceClient:
    """Find the newest docker CLI with buildx that runs here: Debian sid's, or trixie's; see the package for the cache.

    Raises:
        Unavailable: neither can be fetched or runs.
    """
    reasons = []
    for suite in moving_suites():
        try:
            return _client(suite_folder(suite))
        except Unavailable as reason:
            reasons.append(str(reason))
    raise Unavailable("no docker CLI with buildx: " + "; ".join(reasons))


def _client(folder: Path) -> ReferenceClient:
    docker = folder / "usr/bin/docker"
    buildx = folder / "usr/libexec/docker/cli-plugins/docker-buildx"
    try:
        result = subprocess.run([buildx, "version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{buildx} does not run on this machine: {error}") from error
    return ReferenceClient(docker, buildx, version=result.stdout.strip())
