"""What the machine itself contributes: packages to install, and a program that runs in an empty image."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.testing.dockerd import search_path
from buildkit_session.testing.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["busybox", "install_packages", "missing_packages"]

# What a package is there for: a program on the search path.
_PROGRAMS = {
    "docker.io": "dockerd",
    "busybox-static": "busybox",
    "openssl": "openssl",
    "openssh-client": "ssh",
    "git": "git",
}
_INSTALL_TIMEOUT = 900.0
_ELF_INTERPRETER = 3


def busybox() -> Path:
    """Find a statically linked busybox: a shell and its tools for images that start from nothing.

    Raises:
        Unavailable: there is none; the text names the package to install.
    """
    for folder in search_path().split(os.pathsep):
        program = Path(folder, "busybox")
        if program.is_file() and _is_static(program):
            return program
    raise Unavailable("there is no static busybox (on Debian and Ubuntu: apt-get install busybox-static)")


def missing_packages() -> list[str]:
    """Name the packages of Debian and Ubuntu that this machine lacks for private daemons and what they talk to."""
    return [package for package, program in _PROGRAMS.items() if shutil.which(program, path=search_path()) is None]


def install_packages(*, say: Callable[[str], object] = print) -> None:
    """Install with apt-get what is missing for private daemons, their images and their peers; says so first.

    Installing docker.io also starts the machine's own Docker service, where services are started at all.

    Args:
        say: is called with one line before anything is changed.

    Raises:
        Unavailable: something is missing and this is not root on Debian or Ubuntu, or apt-get failed.
    """
    missing = missing_packages()
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None or not _is_debian():
        raise Unavailable(f"missing: {names}; only root on Debian or Ubuntu gets them installed from here")
    say(f"Installing with apt-get, as they are missing: {names} (docker.io also starts the machine's Docker service)")
    _apt_get("update")
    _apt_get("install", "--yes", "--no-install-recommends", *missing)


def _is_debian() -> bool:
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return False
    return not {"debian", "ubuntu"}.isdisjoint([system.get("ID", ""), *system.get("ID_LIKE", "").split()])


def _apt_get(*arguments: str) -> None:
    try:
        subprocess.run(
            ["apt-get", "--quiet", *arguments],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            timeout=_INSTALL_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"apt-get {arguments[0]} failed: {error}") from error


def _is_static(program: Path) -> bool:
    """Tell whether an ELF program names no dynamic loader (elf(5): no program header of type PT_INTERP)."""
    image = program.read_bytes()
    if image[:4] != b"\x7fELF":
        return False
    wide, order = image[4] == 2, "<" if image[5] == 1 else ">"
    (table,) = struct.unpack_from(order + ("Q" if wide else "I"), image, 32 if wide else 28)
    size, count = struct.unpack_from(order + "HH", image, 54 if wide else 42)
    kinds = (struct.unpack_from(order + "I", image, table + index * size)[0] for index in range(count))
    return _ELF_INTERPRETER not in kinds
