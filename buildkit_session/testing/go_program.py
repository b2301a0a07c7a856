"""Programs built from a Go module into the cache folder, once.

They are built inside the module as it was published, so with exactly the dependencies that its authors chose; the Go
tool checks them against the module's own list of checksums.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.testing.archive import cache_folder, locked
from buildkit_session.testing.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GoModule"]

# Seconds: BuildKit takes two and a half minutes on two cores.
_BUILD_TIMEOUT = 1800.0
# No C compiler, no libraries of the machine: the programs run in an empty image as well.
_SETTINGS = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
_TAGS = ("osusergo", "netgo")


class GoModule:
    """One version of a Go module, and some of its programs.

    Args:
        path: of the module.
        version: of the module, such as ``v0.25.2``.
        programs: packages below the module, such as ``cmd/buildctl``.
        tags: build tags, beside those for static programs.
        version_variable: the package variable that holds the version which a program says it has.
    """

    def __init__(
        self, path: str, version: str, programs: Sequence[str], *, tags: Sequence[str], version_variable: str
    ) -> None:
        self._path = path
        self._version = version
        self._programs = programs
        self._tags = ",".join((*_TAGS, *tags))
        self._linking = f"-s -w -X {version_variable}={version}"

    @property
    def folder(self) -> Path:
        """Where the programs are, once they are built."""
        return self._home / f"{self._path}@{self._version}".replace("/", "+")

    @property
    def _home(self) -> Path:
        return cache_folder() / "go"

    def found(self) -> Path:
        """Give the folder with the programs.

        Raises:
            Unavailable: they have not been built.
        """
        if not self.folder.is_dir():
            raise Unavailable(
                f"{self._path} {self._version} has not been built: 'python -m buildkit_session.testing' builds it, "
                "in some minutes, where there is a Go toolchain"
            )
        return self.folder

    def built(self) -> Path:
        """Give the folder with the programs, building them if they are not there.

        Safe for several processes at once: one builds, the others wait. The folder appears whole or not at all.

        Raises:
            Unavailable: there is no Go toolchain, or the build failed.
        """
        if shutil.which("go") is None:
            return self._found_without_go()
        with locked(self._home):
            if not self.folder.is_dir():
                self._build()
        return self.folder

    def _found_without_go(self) -> Path:
        try:
            return self.found()
        except Unavailable:
            raise Unavailable(f"{self._path} cannot be built: this machine has no Go toolchain (go)") from None

    def _build(self) -> None:
        module = json.loads(self._go("mod", "download", "-json", f"{self._path}@{self._version}", directory=self._home))
        packages = [f"./{program}" for program in self._programs]
        with tempfile.TemporaryDirectory(prefix=".building-", dir=self._home) as aside:
            target = Path(aside, "programs")
            target.mkdir()
            flags = ["-trimpath", "-ldflags", self._linking, "-tags", self._tags, "-o", f"{target}/"]
            self._go("build", *flags, *packages, directory=Path(module["Dir"]))
            target.rename(self.folder)

    def _go(self, *arguments: str, directory: Path) -> str:
        try:
            result = subprocess.run(
                # Other work on this machine goes first.
                ["nice", "go", *arguments],
                cwd=directory,
                env=os.environ | _SETTINGS,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_BUILD_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"go could not be run: {error}") from error
        if result.returncode:
            raise Unavailable(f"go {arguments[0]} of {self._path} failed: {result.stderr.strip()[-2000:]}")
        return result.stdout
