"""Debian packages of another release, unpacked into a cache folder; the machine itself stays as it is.

apt runs with a state, a cache and a source list of its own. The archive it asks is the one the machine's apt uses, so
mirrors and proxies are the user's; what it downloads is checked against Debian's signing keys. Root is not needed.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.testing.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["cache_folder", "locked", "unpacked"]

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TOOLS = ("apt-get", "dpkg", "dpkg-deb")
# Seconds for one apt command: an index of some 10 MB or packages of some 60 MB over a slow line.
_COMMAND_TIMEOUT = 600.0


def cache_folder() -> Path:
    """Name the folder for what is fetched: ``$BUILDKIT_SESSION_CACHE``, or ``buildkit_session`` in the user's cache."""
    if chosen := os.environ.get("BUILDKIT_SESSION_CACHE"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "buildkit_session").absolute()


def unpacked(suite: str, packages: Sequence[str], *, usable: Callable[[Path], bool], name: str | None = None) -> Path:
    """Give the folder that holds a suite's packages unpacked, fetching them if they are not there.

    Safe for several processes at once: one fetches, the others wait. The folder appears whole or not at all.

    Args:
        suite: a release of Debian, such as ``sid``.
        packages: what to unpack, without dependencies; the same for every call with this name.
        usable: is asked about a folder that is there already; one that is not usable is fetched anew.
        name: of the folder; the default is the suite's.

    Returns:
        The folder; its ``usr`` is laid out as the system's.

    Raises:
        Unavailable: this is not Debian, its apt names no archive, or a download failed.
    """
    home = cache_folder() / "debian"
    folder = home / (name or suite)
    with locked(home):
        if not (folder.is_dir() and usable(folder)):
            _fetch(suite, packages, folder)
    return folder


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Make a folder of the cache, and keep other processes that ask for its lock out of the block.

    Raises:
        Unavailable: it cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"the cache folder {home} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fetch(suite: str, packages: Sequence[str], folder: Path) -> None:
    source = _source_line(suite)
    # Beside the target, so that the rename below stays within one file system.
    with tempfile.TemporaryDirectory(prefix=f".{suite}-", dir=folder.parent) as aside:
        work = Path(aside)
        for package in _download(source, packages, work / "apt"):
            _run("dpkg-deb", "-x", str(package), str(work / "root"))
        if folder.exists():
            folder.rename(work / "replaced")
        (work / "root").rename(folder)


def _source_line(suite: str) -> str:
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        raise Unavailable(f"packages of Debian {suite} cannot be fetched: this machine has no {missing[0]}")
    if not _KEYRING.exists():
        raise Unavailable(f"packages of Debian {suite} cannot be fetched: {_KEYRING} is missing")
    architecture = _run("dpkg", "--print-architecture").strip()
    return f"deb [arch={architecture} signed-by={_KEYRING}] {_archive()} {suite} main\n"


def _archive() -> str:
    """Name the archive this machine's own release comes from.

    Security and update suites, and other people's archives, are told apart by the name of the release: theirs is longer
    or another.
    """
    system = platform.freedesktop_os_release()
    own = {system.get("VERSION_CODENAME"), "stable", "oldstable", "testing", "unstable", "sid"}
    listing = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Identifier: Packages")
    for line in listing.splitlines():
        uri, release, component = line.rsplit(" ", 2)
        if system.get("ID") == "debian" and release in own and component == "main":
            return uri
    raise Unavailable("this machine's apt names no archive of Debian")


def _download(source: str, packages: Sequence[str], home: Path) -> list[Path]:
    for folder in ("state/lists/partial", "cache/archives/partial", "downloads"):
        (home / folder).mkdir(parents=True)
    source_list = home / "sources.list"
    source_list.write_text(source)
    options = {
        "Dir::State": home / "state",
        "Dir::State::status": os.devnull,
        "Dir::Cache": home / "cache",
        "Dir::Etc::SourceList": source_list,
        "Dir::Etc::SourceParts": os.devnull,
        "Dir::Etc::Preferences": os.devnull,
        "Dir::Etc::PreferencesParts": os.devnull,
        "Acquire::Languages": "none",
        # Snapshots and mirrors that lag will do: what they hold is signed all the same.
        "Acquire::Check-Valid-Until": "false",
        # apt's own unprivileged user cannot reach a folder below a home directory.
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "--quiet=2", *(f"--option={name}={value}" for name, value in options.items())]
    _run(*apt, "--option=APT::Update::Error-Mode=any", "update")
    _run(*apt, "download", *packages, directory=home / "downloads")
    return sorted((home / "downloads").glob("*.deb"))


def _run(*command: str, directory: Path | None = None) -> str:
    try:
        result = subprocess.run(
            command,
            cwd=directory,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} could not be run: {error}") from error
    if result.returncode:
        raise Unavailable(f"{command[0]} {command[-1]} failed: {result.stderr.strip()[-2000:]}")
    return result.stdout
