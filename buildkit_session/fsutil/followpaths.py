"""Follow paths: names that are wanted together with everything their symbolic links lead to.

The daemon asks for the sources of a COPY this way, so that ``COPY link/x .`` finds what ``link`` points at. Each path
becomes include patterns: every link on the way, and where the way ends.

Everything is resolved beneath the root: an absolute target starts there, ``..`` stops there.

Source: tonistiigi/fsutil:followlinks.go (FollowLinks).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from buildkit_session.fsutil.automaton import Automaton
from buildkit_session.fsutil.beneath import is_gone, open_directory, read_link, transfer_error
from buildkit_session.fsutil.glob import PatternError, has_wildcard, parse_name_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["drop_nested", "follow_paths"]


def follow_paths(root_fd: int, paths: Sequence[str]) -> list[str] | None:
    """Resolve ``paths`` to include patterns, sorted by their bytes.

    A path that does not exist stays as it is, wildcards included. Wildcards match links only in the component that
    is examined; behind a wildcard that matched no link, links are not found, as upstream.

    Args:
        root_fd: the directory they are relative to.
        paths: with undecodable bytes as surrogates.

    Returns:
        The patterns, or ``None`` when a path leads to the root itself: then everything is wanted.

    Raises:
        TransferError: a directory on the way cannot be read.
    """
    follower = _Follower(root_fd)
    # A stack, and not a queue: which path comes first decides, because a link is followed only once.
    pending = [_components(path) for path in reversed(paths)]
    while pending:
        pending += reversed(follower.follow(pending.pop()))
    found = ["/".join(components) or "." for components in follower.found]
    return drop_nested(sorted(found, key=_encode))


def drop_nested(patterns: Sequence[str]) -> list[str] | None:
    """Drop each pattern that lies below the last one kept; ``None`` if one of them is the root."""
    kept: list[str] = []
    last = ""
    for pattern in patterns:
        if pattern == ".":
            return None
        if not pattern.startswith(f"{last}/"):
            kept.append(pattern)
            last = pattern
    return kept


class _Follower:
    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self.found: set[tuple[str, ...]] = set()
        # The links in each directory that a wildcard was applied to, in the order of their names.
        self._links: dict[tuple[str, ...], list[tuple[str, str]]] = {}

    def follow(self, path: list[str]) -> list[list[str]]:
        """Walk along ``path`` up to its first link; returns the paths to go on with, which is none at the end."""
        directory: int | None = os.dup(self._root_fd)
        try:
            for depth, name in enumerate(path):
                here = tuple(path[: depth + 1])
                targets = [] if directory is None else self._targets(here, directory)
                if targets:
                    if here in self.found:
                        return []
                    self.found.add(here)
                    return [_components(target, start=here[:-1]) + path[depth + 1 :] for target in targets]
                if directory is not None and depth + 1 < len(path):
                    directory = _step(directory, name, here)
            self.found.add(tuple(path))
            return []
        finally:
            if directory is not None:
                os.close(directory)

    def _targets(self, here: tuple[str, ...], directory: int) -> list[str]:
        """Return where the links lead that the last component of ``here`` names in ``directory``."""
        name = here[-1]
        if not has_wildcard(name):
            target = _read_link(name, directory, here)
            return [] if target is None else [target]
        matches = _NameMatcher(name)
        return [target for link, target in self._links_in(here[:-1], directory) if matches(link)]

    def _links_in(self, path: tuple[str, ...], directory: int) -> list[tuple[str, str]]:
        links = self._links.get(path)
        if links is None:
            links = self._links[path] = _list_links(directory, path)
        return links


class _NameMatcher:
    """Matches names against one wildcard; a malformed one matches nothing."""

    def __init__(self, pattern: str) -> None:
        try:
            patterns = [parse_name_pattern(pattern)]
        except PatternError:
            patterns = []
        self._automaton = Automaton(patterns)

    def __call__(self, name: str) -> bool:
        return bool(self._automaton.hits(self._automaton.run(self._automaton.start, name)))


def _components(path: str, start: tuple[str, ...] = ()) -> list[str]:
    """Return the components of ``path``, seen from the directory ``start``, with the root as upper end of the world."""
    resolved = [] if path.startswith("/") else list(start)
    for component in path.split("/"):
        if component == "..":
            del resolved[-1:]
        elif component not in {"", "."}:
            resolved.append(component)
    return resolved


def _step(directory: int, name: str, here: tuple[str, ...]) -> int | None:
    """Exchange the descriptor of a directory for that of its subdirectory, or for ``None`` if it has no such."""
    following = None
    try:
        if "\0" not in name:
            following = open_directory(_encode(name), dir_fd=directory, to_list=False)
    except OSError as error:
        if not _is_absent(error):
            raise transfer_error("follow", _encode("/".join(here)), error.strerror) from error
    os.close(directory)
    return following


def _read_link(name: str, directory: int, here: tuple[str, ...]) -> str | None:
    if "\0" in name:
        return None
    try:
        return _decode(read_link(_encode(name), dir_fd=directory))
    except OSError as error:
        if _is_absent(error):
            return None
        raise transfer_error("follow", _encode("/".join(here)), error.strerror) from error


def _list_links(directory: int, path: tuple[str, ...]) -> list[tuple[str, str]]:
    try:
        names = _link_names(directory)
    except OSError as error:
        raise transfer_error("read", _encode("/".join(path)), error.strerror) from error
    links = ((name, _read_link(name, directory, (*path, name))) for name in names)
    return [(name, target) for name, target in links if target is not None]


def _link_names(directory: int) -> list[str]:
    listed = open_directory(b".", dir_fd=directory, to_list=True)
    try:
        with os.scandir(listed) as entries:
            return [
                _decode(name) for name in sorted(os.fsencode(entry.name) for entry in entries if entry.is_symlink())
            ]
    finally:
        os.close(listed)


def _is_absent(error: OSError) -> bool:
    # A name that is too long cannot exist, which is no different from one that does not.
    return is_gone(error) or error.errno == errno.ENAMETOOLONG


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
