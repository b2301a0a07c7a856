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
        words = ["buildx", "build", "--progress=plain", "--network=none", *arguments]
        return self.run(address, *words, check=check, timeout=timeout)

    def run(
        self,
        address: str,
        *words: str | Path,
        stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        check: bool = True,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run any command line of the docker CLI, such as ``"buildx", "du"``.

        Args:
            address: of the daemon, as for ``DOCKER_HOST``.
            words: of the command line, after ``docker``.
            stdin: what it reads; the default is nothing.
            environment: variables beside those of :meth:`environment`.
            directory: the working directory.
            check: raise where it fails.
            timeout: seconds.

        Returns:
            The finished process, its output as text; what is no UTF-8 is escaped.

        Raises:
            subprocess.CalledProcessError: it failed and ``check`` is set.
            subprocess.TimeoutExpired: it took longer; the client has been ended.
        """
        with self.environment(address) as own:
            result = self.run_in(
                {**own, **(environment or {})}, *words, stdin=stdin, directory=directory, timeout=timeout
            )
        finished = subprocess.CompletedProcess(
            result.args, result.returncode, _text(result.stdout), _text(result.stderr)
        )
        if check:
            finished.check_returncode()
        return finished

    def run_in(
        self,
        environment: Mapping[str, str],
        *words: str | Path,
        stdin: bytes | None = None,
        directory: Path | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run any command line in an environment made before, as several commands with one state need it.

        Args:
            environment: of :meth:`environment`, perhaps with more variables.
            words: of the command line, after ``docker``.
            stdin: what it reads; the default is nothing.
            directory: the working directory.
            timeout: seconds.

        Returns:
            The finished process, its output as bytes; whether it failed is not looked at.

        Raises:
            subprocess.TimeoutExpired: it took longer; the client has been ended.
        """
        return subprocess.run(
            [self.docker, *words],
            env=environment,
            cwd=directory,
            input=stdin or b"",
            capture_output=True,
            timeout=timeout,
            check=False,
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


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _client(folder: Path) -> ReferenceClient:
    docker = folder / "usr/bin/docker"
    buildx = folder / "usr/libexec/docker/cli-plugins/docker-buildx"
    try:
        result = subprocess.run([buildx, "version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{buildx} does not run on this machine: {error}") from error
    return ReferenceClient(docker, buildx, version=result.stdout.strip())
