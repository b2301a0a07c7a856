"""Which entries of a tree are part of a transfer.

Source: tonistiigi/fsutil:filter.go (NewFilterFS).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buildkit_session.fsutil.followpaths import drop_nested, follow_paths
from buildkit_session.fsutil.patterns import PatternMatcher

if TYPE_CHECKING:
    from buildkit_session.fsutil.patterns import MatchState

__all__ = ["Filter", "Selection", "Verdict"]


class Filter(NamedTuple):
    """What the other side wants of a tree, in the words it was asked for.

    Attributes:
        include: patterns; only what matches them is kept. None means everything.
        exclude: patterns, as in a ``.dockerignore``; what matches them is dropped, included or not.
        follow: paths that are included together with what their links lead to, see
            :mod:`buildkit_session.fsutil.followpaths`.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()

    def resolve(self, root_fd: int) -> Selection:
        """Return the filter made ready for the tree at ``root_fd``; reads the tree to follow links.

        Raises:
            InputError: a pattern is malformed.
            TransferError: a path to follow leads through a directory that cannot be read.
        """
        return Selection(self._includes(root_fd), self.exclude)

    def _includes(self, root_fd: int) -> tuple[str, ...]:
        if not self.follow:
            return self.include
        followed = follow_paths(root_fd, self.follow)
        if followed is None:
            return self.include
        return tuple(drop_nested((*self.include, *followed)) or ())


class Verdict(NamedTuple):
    """What is decided about one entry, and is needed to decide about those below it."""

    kept: bool
    included: MatchState | None
    excluded: MatchState | None


class Selection:
    """Decides about entries, from the root downwards. Not for use by two threads at a time."""

    def __init__(self, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        # A list of blank patterns is not the same as no list: nothing matches it.
        self._include = PatternMatcher(include) if include else None
        self._exclude = PatternMatcher(exclude) if exclude else None
        # Nothing to decide then: each verdict would be that of the root.
        self.keeps_everything = self._include is None and self._exclude is None
        self.root = Verdict(
            kept=True,
            included=self._include.root if self._include else None,
            excluded=self._exclude.root if self._exclude else None,
        )

    def judge(self, parent: Verdict, name: str) -> Verdict:
        """Decide about the entry ``name`` of the directory that ``parent`` was the verdict on."""
        kept = True
        included = excluded = None
        if self._include and parent.included:
            included = self._include.match(parent.included, name)
            kept = included.matched
        if self._exclude and parent.excluded:
            excluded = self._exclude.match(parent.excluded, name)
            kept = kept and not excluded.matched
        return Verdict(kept, included, excluded)

    def keeps_nothing_below(self, verdict: Verdict) -> bool:
        """Tell whether surely nothing below the directory is kept, so that it need not be read."""
        return (
            self._include is not None
            and verdict.included is not None
            and not verdict.included.matched
            and self._include.settled(verdict.included)
        ) or (
            self._exclude is not None
            and verdict.excluded is not None
            and verdict.excluded.matched
            and self._exclude.settled(verdict.excluded)
        )
