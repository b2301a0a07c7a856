"""Where the context of a build stands in git: told to the daemon, for provenance and labels.

Asks the ``git`` program, which may be missing. What it does not tell within its time is left out: it must not keep a
build from starting.

Source: docker/buildx:build/git.go (getGitAttributes), util/gitutil/gitutil.go.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from buildkit_session.request.environment import is_on

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TIMEOUT", "vcs_attributes"]

TIMEOUT: Final = 5.0
"""Seconds for all that git is asked."""

_INFO, _LABELS, _CHECK_DIRTY = "BUILDX_GIT_INFO", "BUILDX_GIT_LABELS", "BUILDX_GIT_CHECK_DIRTY"
_REVISION: Final = "org.opencontainers.image.revision"
_SOURCE: Final = "org.opencontainers.image.source"
_ENTRYPOINT: Final = "com.docker.image.source.entrypoint"


def vcs_attributes(
    directory: str | os.PathLike[str],
    *,
    environ: Mapping[str, str],
    dockerfile: str | os.PathLike[str] | None = None,
    mounts: Mapping[str, str | os.PathLike[str]] | None = None,
    timeout: float = TIMEOUT,
) -> dict[str, str]:
    """Describe the work tree that ``directory`` is in. Blocks while git runs: call it in a thread.

    Args:
        directory: the context.
        environ: of git, and with ``BUILDX_GIT_INFO``, ``BUILDX_GIT_LABELS`` and ``BUILDX_GIT_CHECK_DIRTY``.
        dockerfile: its path, for a label; ``Dockerfile`` in the context by default.
        mounts: names of the session's directories, and where they are.
        timeout: seconds.

    Returns:
        Attributes ``vcs:*``, and with ``BUILDX_GIT_LABELS`` labels; none outside of a work tree or without git.
    """
    info = is_on(environ, _INFO, default=True)
    labels = environ.get(_LABELS) == "full" or is_on(environ, _LABELS)
    place = Path(directory).absolute()
    if not (info or labels) or not _may_be_in_work_tree(place, environ):
        return {}
    git = _Git(place, environ, time.monotonic() + timeout)
    inside, _, root = (git.ask("rev-parse", "--is-inside-work-tree", "--show-toplevel") or "").partition("\n")
    if inside != "true" or not root:
        return {}
    found = _found(git, check_dirty=is_on(environ, _CHECK_DIRTY))
    attrs: dict[str, str] = {}
    if info:
        attrs |= {f"vcs:{name}": value for name, value in found.items()}
        attrs |= _mounts(Path(root), mounts or {})
    if labels:
        named = {_REVISION: found.get("revision"), _SOURCE: found.get("source")}
        named[_ENTRYPOINT] = _below(Path(root), Path(dockerfile or place / "Dockerfile").absolute())
        attrs |= {f"label:{name}": value for name, value in named.items() if value}
    return attrs


class _Git:
    """The program, run in one directory until one deadline."""

    def __init__(self, place: Path, environ: Mapping[str, str], deadline: float) -> None:
        self._place = place
        self._deadline = deadline
        # Without the locks that even reading takes, and in English.
        self._environ = {**environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}

    def ask(self, *words: str) -> str | None:
        """Return what git prints, or ``None`` if it cannot tell."""
        # A repository may name a program of its own to watch its files with.
        command = ("git", "-c", "log.showSignature=false", "-c", "core.fsmonitor=false", *words)
        try:
            finished = subprocess.run(
                command,
                cwd=self._place,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=max(self._deadline - time.monotonic(), 0),
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return os.fsdecode(finished.stdout).removesuffix("\n")


def _may_be_in_work_tree(place: Path, environ: Mapping[str, str]) -> bool:
    """Whether to ask git at all: most contexts are in no repository, and starting a program takes time."""
    if "GIT_DIR" in environ:
        return True
    real = Path(os.path.realpath(place))
    return any((directory / ".git").exists() for directory in (real, *real.parents))


def _found(git: _Git, *, check_dirty: bool) -> dict[str, str]:
    revision = git.ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    # Unknown is not clean.
    if revision and check_dirty and git.ask("status", "--porcelain", "--ignored") != "":
        revision += "-dirty"
    return {name: value for name, value in (("revision", revision), ("source", _source(git))) if value}


def _source(git: _Git) -> str:
    """The URL of the branch's own remote, else of the usual ones."""
    branch = git.ask("symbolic-ref", "-q", "HEAD")
    own = git.ask("for-each-ref", "--format=%(upstream:remotename)", branch) if branch else ""
    for remote in dict.fromkeys((own, "origin", "upstream")):
        if remote and (urls := git.ask("remote", "get-url", "--", remote)):
            return _without_credentials(urls.partition("\n")[0])
    return ""


def _without_credentials(url: str) -> str:
    if "://" not in url:
        return url  # a path, or user@host:path, where the user is no secret
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _mounts(root: Path, mounts: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
    places = {name: _below(root, Path(os.path.realpath(place))) for name, place in mounts.items()}
    return {f"vcs:localdir:{name}": place for name, place in places.items() if place is not None}


def _below(root: Path, path: Path) -> str | None:
    """The path counted from the root of the work tree; ``None`` if it is outside."""
    relative = os.path.relpath(path, root)
    return None if relative == ".." or relative.startswith("../") else relative
