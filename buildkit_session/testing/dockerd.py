"""Find a ``dockerd`` program: this machine's own, one of a Debian package, or one built from source, in the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.testing.archive import unpacked
from buildkit_session.testing.errors import DaemonUnavailable, Unavailable
from buildkit_session.testing.go_program import GoModule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Dockerd", "Wanted", "build_dockerd", "find_dockerd", "moving_suites", "search_path", "suite_folder"]

#: Which daemon: this machine's, the oldest that is supported, the newest that is packaged, or one built from source.
Wanted: TypeAlias = Literal["installed", "20.10", "newest", "built"]

# Newer Debian splits what bookworm ships as one package. The client comes along for comparisons.
_PACKAGES = {
    "bookworm": ("docker.io",),
    "trixie": ("docker.io", "docker-cli", "docker-buildx"),
    "sid": ("docker.io", "docker-cli", "docker-buildx"),
}
_OLDEST = "20.10"
# No package is new enough to speak HTTP/2 on the API's own socket (Engine 29.2, API 1.53). Needs Go 1.26.
_MODULE = GoModule(
    "github.com/moby/moby/v2",
    "v2.0.0-beta.24",
    ("cmd/dockerd",),
    tags=("exclude_graphdriver_btrfs",),
    version_variable="github.com/moby/moby/v2/dockerversion.Version",
)
_VERSION = re.compile(r"version v?(\d+\.[^\s,]+)")


@dataclass(frozen=True, slots=True)
class Dockerd:
    """A ``dockerd`` that runs on this machine.

    Attributes:
        path: the program.
        version: as it says itself, such as ``20.10.24+dfsg1``.
        origin: where it comes from, for people: ``installed`` or ``Debian sid``.
        passed_over: why each better place has none, for people.
    """

    path: Path
    version: str
    origin: str
    passed_over: tuple[str, ...] = ()


def find_dockerd(wanted: Wanted = "installed") -> Iterator[Dockerd]:
    """Yield the daemons that answer to what is wanted, best first; each is looked for, or fetched, when its turn comes.

    Whether one really starts is known only after trying: take the next where it does not.

    Raises:
        DaemonUnavailable: after the last one, where there was none at all; the text gives the reason of every place
            looked at.
        InputError: (with the first one) nothing goes by that name.
    """
    if wanted not in _SOURCES:
        raise InputError(f"no dockerd {wanted!r}; name {', '.join(_SOURCES)}")
    reasons: list[str] = []
    found = False
    for source in _SOURCES[wanted]:
        try:
            dockerd = source()
        except Unavailable as reason:
            reasons.append(str(reason))
        else:
            found = True
            yield replace(dockerd, passed_over=tuple(reasons))
    if not found:
        raise DaemonUnavailable(f"no dockerd ({wanted}): " + "; ".join(reasons))


def build_dockerd() -> Dockerd:
    """Find the daemon that was built from source in the cache folder, or build it: some minutes on two cores.

    Raises:
        Unavailable: there is no Go toolchain, or the build failed.
    """
    return _in_folder(_MODULE.built())


def search_path() -> str:
    """Give the folders to look for a daemon and its tools in: also root's, which other users lack on Debian."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def moving_suites() -> tuple[str, ...]:
    """Name the suites of Debian that may hold the newest Docker that runs here, newest first."""
    return ("sid", "trixie")


def suite_folder(suite: str) -> Path:
    """Give the folder with a suite's Docker packages unpacked, whose ``dockerd`` runs on this machine.

    Raises:
        Unavailable: they cannot be fetched, or do not run here.
    """
    folder = unpacked(suite, _PACKAGES[suite], usable=lambda folder: _version(_program(folder)) is not None)
    if _version(_program(folder)) is None:
        raise Unavailable(f"the dockerd of Debian {suite} does not run on this machine")
    return folder


def _installed() -> Dockerd:
    found = shutil.which("dockerd", path=search_path())
    version = _version(Path(found)) if found else None
    if found is None or version is None:
        raise Unavailable("this machine has no dockerd that runs (on Debian and Ubuntu: apt-get install docker.io)")
    return Dockerd(Path(found), version, "installed")


def _built() -> Dockerd:
    return _in_folder(_MODULE.found())


def _in_folder(folder: Path) -> Dockerd:
    path = folder / "dockerd"
    return Dockerd(path, _version(path) or "", "built from source")


def _installed_if(accepted: Callable[[str], bool], complaint: str) -> Callable[[], Dockerd]:
    def source() -> Dockerd:
        dockerd = _installed()
        if not accepted(dockerd.version):
            raise Unavailable(f"the installed one is {dockerd.version}, {complaint}")
        return dockerd

    return source


def _of_suite(suite: str) -> Callable[[], Dockerd]:
    def source() -> Dockerd:
        path = _program(suite_folder(suite))
        return Dockerd(path, _version(path) or "", f"Debian {suite}")

    return source


def _program(folder: Path) -> Path:
    return folder / "usr/sbin/dockerd"


def _version(program: Path) -> str | None:
    """Run ``--version``; ``None`` where the program is missing or does not run here."""
    try:
        result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(result.stdout)
    return match.group(1) if match and result.returncode == 0 else None


_SOURCES: dict[Wanted, tuple[Callable[[], Dockerd], ...]] = {
    "installed": (_installed,),
    "20.10": (
        _installed_if(lambda version: version.startswith(_OLDEST), f"not {_OLDEST}"),
        _of_suite("bookworm"),
    ),
    "newest": (
        *map(_of_suite, moving_suites()),
        _installed_if(lambda version: not version.startswith(_OLDEST), "the oldest"),
    ),
    "built": (_built,),
}
