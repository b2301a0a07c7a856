"""Matching of element sequences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.fsutil import automaton as module
from buildkit_session.fsutil.automaton import (
    Automaton,
    Check,
    Element,
    Gap,
    Many,
    One,
    State,
    complement,
    single,
)

A, B = One(single("a")), One(single("b"))
AS = Many(single("a"))
NOT_A = Many(complement(single("a")))


def hits(patterns: list[list[Element]], text: str) -> tuple[int, ...]:
    automaton = Automaton(patterns)
    return automaton.hits(automaton.run(automaton.start, text))


@pytest.mark.parametrize(
    ("elements", "matching", "others"),
    [
        ([], [""], ["a"]),
        ([A, B], ["ab"], ["", "a", "b", "abb", "aab"]),
        ([AS, B], ["b", "ab", "aaab"], ["", "a", "abb", "ba"]),
        ([AS, NOT_A, B], ["b", "ab", "bb", "aaxxb"], ["", "a", "xab", "ba"]),
        ([Gap(), A], ["a", "b/a", "/a", "x/y/a"], ["ba", "x/ya", "a/", "x\ny/a", ""]),
        ([A, Gap(), B], ["ab", "a/b", "axx/y/b"], ["axb", "b", "a/xb"]),
        ([Gap(), Gap(), AS, Gap(), B], ["b", "ab", "x/ab", "x/y/aaz/b"], ["xb", "x/yb"]),
        ([Check.START, A], ["a"], ["", "ba"]),
        ([AS, Check.START, A], ["a"], ["aa"]),
        ([A, Check.END], ["a"], ["ab"]),
        ([A, Check.END, B], [], ["ab", "a"]),
        ([AS, Check.WORD_BOUNDARY, NOT_A], ["a", "a-"], ["aab", "", "-"]),
        ([A, Check.NO_WORD_BOUNDARY, NOT_A], ["ab"], ["a", "a-"]),
    ],
)
def test_elements(elements: list[Element], matching: list[str], others: list[str]) -> None:
    assert [text for text in matching + others if hits([elements], text)] == matching


def test_reports_every_pattern_that_matches_by_number() -> None:
    assert hits([[A], [B], [AS], [NOT_A]], "a") == (0, 2)


def test_no_patterns_match_nothing() -> None:
    assert hits([], "") == ()


def test_any_state_can_be_continued() -> None:
    """Reading in two steps is reading."""
    automaton = Automaton([[Gap(), A, B]])
    half = automaton.run(automaton.start, "x/a")
    assert automaton.hits(half) == ()
    assert automaton.hits(automaton.run(half, "b")) == (0,)
    assert automaton.hits(automaton.run(half, "a")) == ()


def test_knows_which_patterns_can_still_match() -> None:
    automaton = Automaton([[A, B, B], [A], [B]])
    state = automaton.run(automaton.start, "a")
    assert [automaton.can_continue(state, automaton.region([n])) for n in range(3)] == [True, False, False]


@given(st.text(alphabet="ab/-\n", max_size=30), st.integers(0, 30))
def test_forgetting_changes_nothing(text: str, cut: int) -> None:
    """A state from before stays good when the memory has been emptied."""
    patterns: list[list[Element]] = [[Gap(), AS, B], [NOT_A, A, NOT_A], [Check.START, AS, Check.WORD_BOUNDARY, NOT_A]]
    automaton = Automaton(patterns)
    state = automaton.run(automaton.start, text[:cut])
    automaton._forget()
    assert automaton.hits(automaton.run(state, text[cut:])) == hits(patterns, text)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither many texts nor many alphabets add up, also while a caller holds on to a state."""
    monkeypatch.setattr(module, "MEMORY", 1)
    automaton = Automaton([[AS, B]])
    held = automaton.run(automaton.start, "a")
    for code in range(0x4E00, 0x4E00 + 5000):
        automaton.run(held, "a" + chr(code))
    assert len(automaton._taking) <= 64
    alive = reachable(held) | reachable(automaton.start) | set(automaton._interned.values())
    assert sum(1 + len(state.moves) for state in alive) < 300


def reachable(state: State) -> set[State]:
    """Everything that ``state`` keeps alive."""
    found = {state}
    new = [state]
    while new:
        following = set(new.pop().moves.values()) - found
        found |= following
        new += following
    return found


def test_complement_is_exact() -> None:
    chars = (("b", "d"), ("c", "f"), ("x", "x"))
    inverse = complement(chars)
    for code in range(ord("a"), ord("z") + 1):
        inside = any(low <= chr(code) <= high for low, high in chars)
        assert any(low <= chr(code) <= high for low, high in inverse) != inside
    assert complement(complement(())) == ()
