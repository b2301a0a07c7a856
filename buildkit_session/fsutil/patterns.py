"""Lists of ignore or include patterns, with Docker's meaning.

Owns the order of patterns, exceptions (``!``), and what a match on a directory means for everything below. The meaning
of one pattern is in :mod:`buildkit_session.fsutil.glob`.

Theory of operation. For a path, first all patterns that match it are found, at once: literal ones in a dictionary, the
rest with one automaton, which goes on from where it stood at the parent directory. Only those, and those that matched a
parent, are then looked at in order; a pattern that matches nothing cannot change the result.

Paths are relative, ``/``-separated ``str`` in which undecodable bytes are surrogates, as ``os.fsdecode`` makes them.

Source: moby/patternmatcher:patternmatcher.go (New, MatchesUsingParentResults, Pattern.match).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from buildkit_session.errors import InputError
from buildkit_session.fsutil.automaton import Automaton, Many, One, complement, single
from buildkit_session.fsutil.glob import PatternError, parse_docker_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.fsutil.automaton import Element, State

__all__ = ["WHITE_SPACE", "MatchState", "PatternMatcher", "clean_path"]

# Go's unicode.IsSpace. str.strip() without an argument would take four control characters more.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"

_ANYTHING = Many(complement(()))


class MatchState(NamedTuple):
    """The result for one path, from which the results below it follow.

    Attributes:
        path: the path, ``""`` for the root.
        matched: whether the patterns match it.
        hits: the numbers of the patterns that matched the path or one of its parents, counted from 0 in the list as it
            was given.
        glob: where the automaton stands behind the path.
    """

    path: str
    matched: bool
    hits: frozenset[int]
    glob: State

    @property
    def decider(self) -> int | None:
        """The number of the pattern that ``matched`` is due to; ``None`` if none matched.

        It is the last hit, as every hit overrules those before it.
        """
        return max(self.hits, default=None)


class PatternMatcher:
    """Matches paths against a list of patterns, directory by directory. Not for use by two threads at a time.

    Args:
        patterns: as in a ``.dockerignore``; blank ones are dropped.

    Raises:
        InputError: a pattern is malformed; the text names it.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exceptions: list[bool] = []
        self._literals: defaultdict[str, list[int]] = defaultdict(list)
        globs: list[list[Element]] = []
        # The number of the pattern that each glob of the automaton stands for.
        self._globs: list[int] = []
        for number, pattern in enumerate(patterns):
            cleaned = clean_path(pattern.strip(WHITE_SPACE))
            self._exceptions.append(cleaned.startswith("!"))
            if not cleaned:
                continue
            literals, elements = _compile(cleaned.removeprefix("!"), pattern)
            for literal in literals:
                self._literals[literal].append(number)
            if elements is not None:
                globs.append(elements)
                self._globs.append(number)
        self._automaton = Automaton(globs)
        self._plain = self._side(exceptions=False)
        self._excepting = self._side(exceptions=True)
        self.root = MatchState("", matched=False, hits=frozenset(), glob=self._automaton.start)

    def match(self, parent: MatchState, name: str) -> MatchState:
        """Return the result for the entry ``name`` of the directory that ``parent`` is the result for."""
        if parent.path:
            path = f"{parent.path}/{name}"
            glob = self._automaton.run(parent.glob, f"/{name}")
        else:
            path = name
            glob = self._automaton.run(parent.glob, name)
        found = {self._globs[n] for n in self._automaton.hits(glob)}
        found.update(self._literals.get(path, ()))
        if found <= parent.hits:
            # The last hit decides, and it is the parent's.
            return MatchState(path, parent.matched, parent.hits, glob)
        matched, hits = self._decide(parent.hits, found)
        return MatchState(path, matched, hits, glob)

    def settled(self, state: MatchState) -> bool:
        """Tell whether everything below the directory surely has the same result as the directory itself.

        ``False`` may be too careful, ``True`` is certain.
        """
        side = self._excepting if state.matched else self._plain
        below = f"{state.path}/"
        at = bisect_left(side.literals, below)
        if at < len(side.literals) and side.literals[at].startswith(below):
            return False
        return not self._automaton.can_continue(self._automaton.run(state.glob, "/"), side.region)

    def _decide(self, parent_hits: frozenset[int], found: set[int]) -> tuple[bool, frozenset[int]]:
        """Go through the patterns in order.

        What matched a parent counts. What matches only this path is looked at only where it would change the result so
        far; otherwise it is no hit for the entries below either.
        """
        matched = False
        hits = set(parent_hits)
        for number in sorted(parent_hits | found):
            exception = self._exceptions[number]
            if number in parent_hits or exception == matched:
                hits.add(number)
                matched = not exception
        return matched, frozenset(hits)

    def _side(self, *, exceptions: bool) -> _Side:
        literals = sorted(
            path for path, numbers in self._literals.items() if any(self._exceptions[n] == exceptions for n in numbers)
        )
        globs = [at for at, number in enumerate(self._globs) if self._exceptions[number] == exceptions]
        return _Side(literals, self._automaton.region(globs))


class _Side(NamedTuple):
    """All exceptions, or all other patterns."""

    literals: list[str]
    region: int


def _compile(pattern: str, given: str) -> tuple[list[str], list[Element] | None]:
    """Return the paths that a cleaned pattern without its ``!`` equals, and what else it matches.

    Docker has shortcuts, which are tests of the bytes and not what the regular expression would be: without wildcards
    it is equality; with ``**`` only at the end, "starts with"; with ``**`` only at the start, "ends with".
    """
    if not pattern:
        raise InputError(f"pattern {given!r} excludes nothing from the ones before it; write a path behind the '!'")
    if _is_literal(pattern):
        return [pattern], None
    if pattern.startswith("**") and _is_literal(pattern[2:]):
        suffix = pattern[2:]
        # "**/foo" matches "foo" as well.
        return [suffix[1:]] if suffix.startswith("/") else [], [_ANYTHING, *_characters(suffix)]
    if pattern.endswith("**") and _is_literal(pattern[:-2]):
        return [], [*_characters(pattern[:-2]), _ANYTHING]
    try:
        return [], parse_docker_pattern(pattern)
    except PatternError as error:
        raise InputError(f"pattern {given!r} is malformed: {error}") from error


def _is_literal(pattern: str) -> bool:
    return not any(char in "*?[]\\" for char in pattern)


def _characters(text: str) -> list[Element]:
    return [One(single(char)) for char in text]


def clean_path(path: str) -> str:
    """Return the shortest path that lexically means the same, or ``""`` for none.

    The ``!`` of an exception is part of the first component here, as it is upstream: ``!../a`` keeps its dots.
    """
    if not path:
        return ""
    rooted = path.startswith("/")
    kept: list[str] = []
    for component in path.split("/"):
        if component == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif component == ".." and rooted:
            continue
        elif component not in {"", "."}:
            kept.append(component)
    return "/" * rooted + "/".join(kept) or "."
