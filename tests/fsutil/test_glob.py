"""The syntax of one pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.fsutil.automaton import Automaton
from buildkit_session.fsutil.glob import PatternError, has_wildcard, parse_docker_pattern, parse_name_pattern

if TYPE_CHECKING:
    from buildkit_session.fsutil.automaton import Element


def matches(elements: list[Element], text: str) -> bool:
    automaton = Automaton([elements])
    return bool(automaton.hits(automaton.run(automaton.start, text)))


NAME_PATTERNS = [
    ("*", ["", "a", "ab"], ["a/b"]),
    ("a?c", ["abc", "aéc", "a\udcffc"], ["ac", "a/c", "abbc"]),
    ("[a-c]x", ["ax", "cx"], ["dx", "x", "-x"]),
    ("[^a-c]x", ["dx", "^x"], ["ax"]),
    ("[ac-e]", ["a", "c", "d"], ["b"]),
    ("[\\]\\-]", ["]", "-"], ["\\"]),
    ("[*?]", ["*", "?"], ["a"]),
    ("[b-a]", [], ["a", "b"]),
    ("\\*\\\\", ["*\\"], ["a\\", "**"]),
    ("a]", ["a]"], ["a"]),
]


@pytest.mark.parametrize(("pattern", "matching", "others"), NAME_PATTERNS)
def test_name_pattern(pattern: str, matching: list[str], others: list[str]) -> None:
    elements = parse_name_pattern(pattern)
    assert [text for text in matching + others if matches(elements, text)] == matching


DOCKER_PATTERNS = [
    ("*.log", ["x.log", ".log"], ["d/x.log", "xlog", "x.log2"]),
    ("a?b", ["axb", "a\nb"], ["ab", "a/b"]),
    ("[a-d]", ["a", "d"], ["e", "aa"]),
    ("[^x]y", ["ay", "/y"], ["xy"]),
    ("**/*.c", ["x.c", "a/b/x.c"], ["x.cc", "a/b/c"]),
    ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "ab"]),
    ("a**b*", ["ab", "ax/b", "abc"], ["axb"]),
    ("a*/**", ["a/", "ab/c/d"], ["ab", "b/c"]),
    ("**/e/**", ["e/x", "a/e/x/y"], ["e", "ae/x"]),
    ("a*/**/x", ["ab/x", "ab/\u00e9/x"], ["ab/c\nd/x"]),
    # The special characters of regular expressions are themselves ...
    ("a.+()|{}$*", ["a.+()|{}$", "a.+()|{}$x"], ["ab"]),
    # ... but for an anchor, which holds at the start and nowhere else.
    ("^a*", ["a", "ab"], ["^a", "^ab"]),
    ("a^*", [], ["a^", "a"]),
    # Escapes are those of regular expressions.
    ("\\*x", ["*x"], ["ax", "\\*x"]),
    ("\\dx", ["1x"], ["dx"]),
    ("\\D\\s\\W", ["a -"], ["1 -", "aa-"]),
    ("a\\bb", [], ["ab", "abb"]),
    ("\\Aa\\z\\B", [], ["a"]),
    ("a\\Bb\\z", ["ab"], ["a"]),
    ("\\ta\\n", ["\ta\n"], ["ta"]),
    # Brackets do not shield wildcards from being rewritten.
    ("[?]x", ["[]x", "^]x", "/]x"], ["?x", "x"]),
    ("[*]", ["]", "[]", "[^/]"], ["*", ""]),
    ("[a**]", ["a", "(", ".", "*", "?"], ["b", ""]),
    ("[[:digit:]x]", ["1", "x"], [":", "d"]),
    ("[[:^alpha:]]", ["1", "-"], ["a", "Z"]),
    ("[\\d\\]\\-]", ["1", "]", "-"], ["d", "\\"]),
    ("[a.-z]", ["a", ".", "/", "z"], ["-", "~"]),
    ("[\\w]", ["_", "Z"], ["-", "é"]),
]


@pytest.mark.parametrize(("pattern", "matching", "others"), DOCKER_PATTERNS)
def test_docker_pattern(pattern: str, matching: list[str], others: list[str]) -> None:
    elements = parse_docker_pattern(pattern)
    assert [text for text in matching + others if matches(elements, text)] == matching


@pytest.mark.parametrize("pattern", ["[", "[]", "[^]", "[a", "[a-", "[-a]", "[a-]", "[a\\", "a\\", "[]a]", "*["])
def test_malformed_for_both_grammars(pattern: str) -> None:
    with pytest.raises(PatternError):
        parse_name_pattern(pattern)
    with pytest.raises(PatternError):
        parse_docker_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["[b-a]", "[[:no:]]", "\\y", "\\é", "\\1", "\\x41", "\\pL", "\\Qa", "[\\b]", "[?[]"]
)
def test_malformed_for_docker_only(pattern: str) -> None:
    parse_name_pattern(pattern)
    with pytest.raises(PatternError):
        parse_docker_pattern(pattern)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", False),
        ("a*", True),
        ("?", True),
        ("[", True),
        ("]", False),
        ("\\*", False),
        ("\\\\*", True),
        ("a\\", False),
    ],
)
def test_has_wildcard(name: str, expected: bool) -> None:
    assert has_wildcard(name) is expected


@given(st.text(alphabet="*?[]^\\-ab/.:(){}|$ \n", max_size=40), st.text(alphabet="ab/-]\n", max_size=40))
def test_any_text_is_a_pattern_or_an_error(pattern: str, text: str) -> None:
    """No other exception gets out, and what is accepted can be run."""
    for parse in (parse_name_pattern, parse_docker_pattern):
        try:
            elements = parse(pattern)
        except PatternError:
            continue
        matches(elements, text)
