"""Where the builds of a history were started from, as far as ``docker buildx`` has noted it down on this machine.

Nothing is written here, and what cannot be read is taken as missing: it is another program's state.

Source: docker/buildx:localstate/localstate.go, util/confutil/config.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.docker_directory import docker_directory
from buildkit_session.docker_settings import Settings
from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BuildOrigin", "find_origin"]


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


def find_origin(environ: Mapping[str, str], ref: str) -> BuildOrigin | None:
    """Look up where a build was started from, if it was started here and by buildx."""
    if not ref.isalnum():
        return None  # no name that buildx gives, and it must not lead elsewhere
    root = Path(environ.get("BUILDX_CONFIG") or docker_directory(environ) / "buildx")
    for builder in _entries(root / "refs"):
        for node in _entries(builder):
            if (found := _read(node, ref)) is not None:
                return found
    return None


def _read(node: Path, ref: str) -> BuildOrigin | None:
    try:
        entry = Settings.read(node / ref)
        return BuildOrigin(node.parent.name, node.name, entry.text("LocalPath"), entry.text("DockerfilePath"))
    except (InputError, FileNotFoundError):
        return None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
