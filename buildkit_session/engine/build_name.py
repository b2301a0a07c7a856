"""What a build in a history is called.

Source: docker/buildx:util/history/name.go (BuildName).
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.engine.buildx_state import BuildOrigin

__all__ = ["build_name"]

_REMOTE: Final = re.compile(r"(?:https?|git|ssh)://|git@|github\.com/")
_USUAL: Final = "Dockerfile"


def build_name(attrs: Mapping[str, str], origin: BuildOrigin | None = None) -> str:
    """Make a name out of what is known: ``directory (target)`` most often.

    Args:
        attrs: the attributes of the frontend.
        origin: where the build was started from, if that is known.
    """
    if name := attrs.get("build-arg:BUILDKIT_BUILD_NAME"):
        return name
    name = _context(attrs) or _place(_local(origin), _dockerfile(attrs, origin))
    if target := attrs.get("target"):
        return f"{name} ({target})" if name else target
    return name or _repository(attrs)


def _context(attrs: Mapping[str, str]) -> str:
    local = attrs.get("vcs:localdir:context", ".")
    return attrs.get("context") or ("" if local == "." else local)


def _dockerfile(attrs: Mapping[str, str], origin: BuildOrigin | None) -> str:
    if origin is not None and not _REMOTE.match(origin.context) and origin.dockerfile not in {"", "-", _USUAL}:
        return origin.dockerfile
    name = attrs.get("filename", _USUAL)
    name = "" if name == _USUAL else name
    folder = attrs.get("vcs:localdir:dockerfile", ".")
    return name if folder == "." else str(PurePosixPath(folder, name))


def _local(origin: BuildOrigin | None) -> str:
    return "" if origin is None or origin.context == "-" or _REMOTE.match(origin.context) else origin.context


def _place(local: str, dockerfile: str) -> str:
    """Name a directory, and the Dockerfile if its own name says more."""
    usual = dockerfile in {"", _USUAL} or dockerfile.endswith(f"/{_USUAL}")
    folder = dockerfile.removesuffix(f"/{_USUAL}")
    if folder.startswith(local) and len(folder) > len(local):
        return folder[local.rfind("/") + 1 :]
    path = PurePosixPath(folder or local)
    if usual:
        return path.name
    return f"{path.parent.name or path.name}/{path.name}" if path.name else ""


def _repository(attrs: Mapping[str, str]) -> str:
    source = attrs.get("vcs:source", "")
    context = attrs.get("input:context", "")
    return source or (context if _REMOTE.match(context) else "")
