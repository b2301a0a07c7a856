"""What ``docker buildx`` keeps on this machine: its builders, and where the builds of a history came from.

Nothing is written here, and what cannot be read is taken as missing: it is another program's state.

Source: docker/buildx:store/store.go, localstate/localstate.go, util/confutil/config.go.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BuildOrigin", "BuilderEntry", "buildx_directory", "docker_directory", "find_origin", "list_builders"]


@dataclass(frozen=True, slots=True)
class BuilderEntry:
    """A builder that was made with ``docker buildx create``.

    Attributes:
        name: of the builder.
        driver: such as ``docker-container``.
        current: whether ``docker buildx use`` has chosen it.
    """

    name: str
    driver: str
    current: bool = False


@dataclass(frozen=True, slots=True)
class BuildOrigin:
    """Where a build was started from.

    Attributes:
        builder: its builder.
        node: its node there.
        context: the directory, a URL or ``-``.
        dockerfile: the path of the Dockerfile, or empty.
    """

    builder: str
    node: str
    context: str = ""
    dockerfile: str = ""


def docker_directory(environ: Mapping[str, str]) -> Path:
    """Where docker keeps its settings."""
    return Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or Path.home(), ".docker"))


def buildx_directory(environ: Mapping[str, str]) -> Path:
    """Where buildx keeps its state."""
    return Path(environ.get("BUILDX_CONFIG") or docker_directory(environ) / "buildx")


def list_builders(environ: Mapping[str, str]) -> list[BuilderEntry]:
    """Return the builders that buildx knows, by name."""
    folder = buildx_directory(environ)
    current = _text(_read(folder / "current"), "Name")
    found = [_read(file) for file in _entries(folder / "instances")]
    return [
        BuilderEntry(name, _text(entry, "Driver"), current=name == current)
        for entry in found
        if (name := _text(entry, "Name"))
    ]


def find_origin(environ: Mapping[str, str], ref: str) -> BuildOrigin | None:
    """Look up where a build was started from, if it was started here and by buildx."""
    if not ref.isalnum():
        return None  # no name that buildx gives, and it must not lead elsewhere
    for builder in _entries(buildx_directory(environ) / "refs"):
        for node in _entries(builder):
            if entry := _read(node / ref):
                return BuildOrigin(builder.name, node.name, _text(entry, "LocalPath"), _text(entry, "DockerfilePath"))
    return None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []


def _read(file: Path) -> Mapping[str, Any]:
    try:
        entry = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""
