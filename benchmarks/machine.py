"""The machine that the figures are from."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from benchmarks.scale import GIB

__all__ = ["available_memory", "describe", "file_system"]

_PACKAGES: Final = ("buildkit-session", "h2", "anyio", "aiohttp", "betterproto2", "grpclib", "grpcio", "uvloop")


def describe() -> dict[str, str]:
    """Name what the figures depend on; what a machine does not tell is left out."""
    facts = {
        "CPU": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / GIB:.1f} GiB",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "commit": _commit(),
    }
    facts |= {name: found for name in _PACKAGES if (found := _version(name))}
    return {name: fact for name, fact in facts.items() if fact}


def available_memory() -> int:
    """Bytes that could be used without swapping."""
    return int(_field("/proc/meminfo", "MemAvailable").split()[0]) * 1024


def file_system(folder: Path) -> str:
    """Name the type of the file system that a folder is on; proc_pid_mountinfo(5)."""
    best, kind = -1, "unknown"
    real = folder.resolve()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount = Path(before.split()[4])
        if real.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), after.split()[0]
    return kind


def _cpu_model() -> str:
    return _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
