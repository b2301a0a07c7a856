"""Platforms, such as ``linux/arm64``: lists of them, and the one way to write each.

Source: containerd/platforms:platforms.go (Parse, Normalize, Format), database.go;
docker/buildx:util/platformutil/parse.go.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace
from typing import Final

from buildkit_session.errors import InputError
from buildkit_session.request.arguments import texts

__all__ = ["Platform", "local", "parse", "read_platforms"]

_OS: Final = re.compile(r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?")
_PART: Final = re.compile(r"[A-Za-z0-9_.-]+")
_SYSTEMS: Final = frozenset(
    {
        *("aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux"),
        *("nacl", "netbsd", "openbsd", "plan9", "solaris", "windows", "zos"),
    }
)
_ARCHITECTURES: Final = frozenset(
    {
        *("386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "ppc64", "ppc64le", "loong64"),
        *("mips", "mipsle", "mips64", "mips64le", "mips64p32", "mips64p32le", "ppc", "riscv", "riscv64"),
        *("s390", "s390x", "sparc", "sparc64", "wasm"),
    }
)
# Other names of an architecture, and the variant that each implies.
_ALIASES: Final = {
    "i386": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
}
_VARIANTS: Final = {
    "amd64": {"v1": ""},
    "arm64": {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"},
    "arm": {"": "v7", "7": "v7", "5": "v5", "6": "v6", "8": "v8"},
}


@dataclass(frozen=True, slots=True)
class Platform:
    """One platform.

    Attributes:
        os: operating system.
        architecture: in Go's words.
        variant: of the architecture; mostly empty.
        os_version: of Windows; mostly empty, and not sent.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def normalised(self) -> Platform:
        """The same platform under its usual names: ``x86_64`` is ``amd64``, ``arm`` is ``arm/v7``."""
        name = self.architecture.lower()
        architecture, implied = _ALIASES.get(name, (name, None))
        variant = self.variant.lower() if implied is None else implied
        variant = _VARIANTS.get(architecture, {}).get(variant, variant)
        return replace(self, os=_system(self.os), architecture=architecture, variant=variant)


def read_platforms(value: object) -> tuple[str, ...]:
    """Take platforms in their usual spelling; each text may hold several, joined by commas, or be ``local``.

    Raises:
        InputError: one of them is none.
    """
    names = (name for text in texts("platforms", value) for name in text.split(",") if text)
    return tuple(str(parse(name).normalised()) for name in names)


def parse(text: str) -> Platform:
    """Read ``OS/ARCH[/VARIANT]``, a known operating system or architecture alone, or ``local``.

    Raises:
        InputError: it is none of these.
    """
    if text.lower() == "local":
        return local()
    first, *others = text.split("/")
    system = _OS.fullmatch(first)
    if system is None or len(others) > 2 or not all(map(_PART.fullmatch, others)):
        raise InputError(f'invalid platform "{text}": use OS/ARCH[/VARIANT], such as linux/arm64')
    if others:
        return Platform(system[1], others[0], "".join(others[1:]), system[2] or "")
    return _parse_single(first, system)


def local() -> Platform:
    """The platform of this machine."""
    return Platform(sys.platform, os.uname().machine).normalised()


def _parse_single(text: str, system: re.Match[str]) -> Platform:
    if _system(system[1]) in _SYSTEMS:
        return replace(local(), os=_system(system[1]), os_version=system[2] or "")
    chosen = Platform(sys.platform, text).normalised()
    if chosen.architecture not in _ARCHITECTURES:
        raise InputError(f'invalid platform "{text}": unknown operating system or architecture; use OS/ARCH[/VARIANT]')
    return chosen


def _system(name: str) -> str:
    lower = name.lower()
    return "darwin" if lower == "macos" else lower
