"""Lists of patterns: order, exceptions, parents (threat ids FP-01 to FP-03, FP-09, FP-10, FP-15)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tricky_cases import tricky

from buildkit_session.errors import InputError
from buildkit_session.fsutil.patterns import PatternMatcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buildkit_session.fsutil.patterns import MatchState

TREE = ("a", "d", "d/a", "d/e", "d/e/a", "d/e/keep", "d/keep", "keep", "x.log", "y", "y/x.log")


def states(matcher: PatternMatcher, paths: Iterable[str]) -> dict[str, MatchState]:
    """The result for each path; a parent precedes its children."""
    found: dict[str, MatchState] = {"": matcher.root}
    for path in paths:
        parent, _, name = path.rpartition("/")
        found[path] = matcher.match(found[parent], name)
    del found[""]
    return found


def matched(patterns: Iterable[str], paths: Iterable[str] = TREE) -> set[str]:
    return {path for path, state in states(PatternMatcher(patterns), paths).items() if state.matched}


D = {"d", "d/a", "d/e", "d/e/a", "d/e/keep", "d/keep"}
ALL = set(TREE)


@tricky(22)
@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["d"], D),
        (["d", "!d/keep"], D - {"d/keep"}),
        (["*", "!d/e/keep"], ALL - {"d/e/keep"}),
        (["**/a"], {"a", "d/a", "d/e/a"}),
        (["*.log"], {"x.log"}),
        (["**/*.log"], {"x.log", "y/x.log"}),
        (["d/**"], D - {"d"}),
        (["d/*"], D - {"d"}),
        (["./d"], D),
        (["d/"], D),
        (["a/../d"], D),
        (["d//e"], {"d/e", "d/e/a", "d/e/keep"}),
        (["../d"], set()),
        (["."], set()),
        (["/"], set()),
        # The daemon strips the slash of an ignore file's line; left in place it cannot match a relative path.
        (["/d"], set()),
        (["/../d"], set()),
        (["!d", "d"], D),
        (["d", "!d"], set()),
        (["d", "!**/keep"], D - {"d/keep", "d/e/keep"}),
        (["**/e/**"], {"d/e/a", "d/e/keep"}),
        (["d/**/a"], {"d/a", "d/e/a"}),
        (["**"], ALL),
        (["*"], ALL),
        ([], set()),
        ([" ", "\t", ""], set()),
        (["  d \u2003"], D),
        # A later pattern wins over an exception, and the other way round.
        (["d", "!d/e", "d/e/a"], D - {"d/e", "d/e/keep"}),
        # The "!" is part of the first component while the pattern is cleaned.
        (["d", "!./d/a"], D),
        (["d", "!d/e/../a"], D - {"d/a"}),
    ],
)
def test_list(patterns: list[str], expected: set[str]) -> None:
    assert matched(patterns) == expected


@tricky(22)
@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("foo**", ["foo", "foobar", "foobar/x"], ["fo", "x/foo"]),
        ("**foo", ["foo", "barfoo", "x/barfoo"], ["food"]),
        ("**/foo", ["foo", "x/foo"], ["barfoo", "x/barfoo"]),
        ("foo/**", ["foo/x", "foo/\n"], ["foo", "foobar"]),
        # No shortcut for these: they are regular expressions, where "**" stops at a line feed.
        ("**/fo?", ["foo", "x/foo"], ["x\ny/foo", "xfoo"]),
        ("^foo", ["^foo"], ["foo"]),
        ("FOO", ["FOO"], ["foo"]),
        ("a|b{2}", ["a|b{2}"], ["a", "bb"]),
        ("\udcff*", ["\udcff", "\udcffx"], ["\udcfe", "ÿ"]),
    ],
)
def test_one_pattern(pattern: str, matching: list[str], others: list[str]) -> None:
    tree = sorted({path[:end] for path in matching + others for end in (*_slashes(path), len(path))})
    covered = {path for path in tree if any(path == m or path.startswith(f"{m}/") for m in matching)}
    assert matched([pattern], tree) == covered
    assert not covered & set(others)


def _slashes(path: str) -> list[int]:
    return [at for at, char in enumerate(path) if char == "/"]


@pytest.mark.parametrize("pattern", ["!", " ! ", "!/", "[", "a/[b", "!a\\", "[b-a]", "\\y"])
def test_bad_pattern_is_named(pattern: str) -> None:
    """FP-09: it is an error each time, and the text shows which pattern it was."""
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            PatternMatcher(["fine", pattern])
        assert repr(pattern) in str(caught.value)


def test_a_pattern_not_looked_at_is_no_hit_for_the_entries_below() -> None:
    """Where the result was settled at a directory, a later pattern decides anew below it."""
    # At "d" the exception is not looked at, as nothing has matched yet; at "d/a" it is.
    assert matched(["!d*", "d/a"], ["d", "d/a", "d/b"]) == {"d/a"}
    assert matched(["d", "d/e", "!d/e/a"], TREE) == D - {"d/e/a"}


COMPONENT = st.sampled_from(["a", "b", "ab", "keep", "x.log", "é", "\udcff"])
PATH = st.lists(COMPONENT, min_size=1, max_size=4).map("/".join)
PIECE = st.sampled_from(["*", "**", "?", "/", "a", "b", "keep", "[ab]", "[^a]", ".log", "\\b", "**/", "/**", "/*"])
PATTERN = st.builds("{}{}".format, st.sampled_from(["", "", "!"]), st.lists(PIECE, min_size=1, max_size=4).map("".join))
PATTERNS = st.lists(st.one_of(PATTERN, PATH, PATH.map("!{}".format)), max_size=6)


def with_parents(paths: Sequence[str]) -> list[str]:
    return sorted({path[:end] for path in paths for end in (*_slashes(path), len(path))}, key=lambda p: p.split("/"))


def usable(patterns: list[str]) -> list[str]:
    good = []
    for pattern in patterns:
        try:
            PatternMatcher([pattern])
        except InputError:
            continue
        good.append(pattern)
    return good


@given(PATTERNS.map(usable), st.lists(PATH, max_size=12).map(with_parents))
def test_settled_directories_never_hide_another_result(patterns: list[str], paths: list[str]) -> None:
    """Pruning does not change what is matched."""
    matcher = PatternMatcher(patterns)
    found = states(matcher, paths)
    for path, state in found.items():
        if matcher.settled(state):
            below = [p for p in paths if p.startswith(f"{path}/")]
            assert {found[p].matched for p in below} <= {state.matched}


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        (["d"], "d", True),
        (["d", "!d/e/x"], "d", False),
        (["d", "!d/e/x"], "d/e", False),
        (["d", "!d/e/x"], "d/f", True),
        (["d", "!d2/x"], "d", True),
        (["d", "!**/x"], "d", False),
        (["d", "!*/x"], "d", False),
        (["d", "!*/x"], "d/e", True),
        (["d/e"], "d", False),
        (["d/e"], "f", True),
        (["f/**"], "f", False),
        (["*.log"], "f", True),
    ],
)
def test_settled_sees_what_can_follow(patterns: list[str], path: str, expected: bool) -> None:
    """Directories that need not be read are known for literal and for wildcard patterns."""
    matcher = PatternMatcher(patterns)
    assert matcher.settled(states(matcher, with_parents([path]))[path]) is expected


@given(PATTERNS.map(usable), st.lists(PATH, min_size=1, max_size=8).map(with_parents))
def test_follows_the_rule_pattern_by_pattern(patterns: list[str], paths: list[str]) -> None:
    """The result is that of going through the list for each path, as the reference describes it."""
    alone = [PatternMatcher([pattern.strip().removeprefix("!")]) for pattern in patterns]
    hits: dict[str, list[bool]] = {"": [False] * len(patterns)}
    expected = {}
    for path in paths:
        verdict = False
        hits[path] = list(hits[path.rpartition("/")[0]])
        for number, pattern in enumerate(patterns):
            exception = pattern.startswith("!")
            if not hits[path][number] and exception == verdict:
                hits[path][number] = _matches_alone(alone[number], path)
            if hits[path][number]:
                verdict = not exception
        expected[path] = verdict
    assert {path: state.matched for path, state in states(PatternMatcher(patterns), paths).items()} == expected


def _matches_alone(matcher: PatternMatcher, path: str) -> bool:
    """Whether the one pattern matches the path itself, not merely a parent."""
    return matcher.match(matcher.root, path).matched


def test_cost_grows_with_the_pattern_not_with_the_ways_to_match() -> None:
    """FP-10: a pattern that makes a backtracking matcher work for minutes takes one step a character."""
    name = "a" * 255
    assert work(["*a" * 127 + "b"], name) <= 10 * len(name)


def work(patterns: list[str], name: str) -> int:
    """Count the calls of Python functions that matching ``name`` takes."""
    matcher = PatternMatcher(patterns)
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        matcher.match(matcher.root, name)
    finally:
        sys.setprofile(before)
    return calls


def test_ten_thousand_patterns_cost_a_path_no_more_than_ten() -> None:
    """FP-11: only the patterns that match are looked at."""
    many = [f"dir{n}/file{n}" for n in range(5000)] + [f"**/name{n}*.py" for n in range(5000)]
    assert work(many, "name77.py") <= 2 * work(many[4995:5005], "name77.py")
