"""Where docker keeps what belongs to one user: settings, contexts, the state of its plugins.

Source: docker/cli:cli/config/config.go (Dir).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["docker_directory"]


def docker_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory, which may not exist."""
    return Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or Path.home(), ".docker"))
