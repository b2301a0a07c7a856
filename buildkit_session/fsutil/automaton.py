"""Many patterns as one automaton that reads a text character by character.

Owns the matching of element sequences in time linear in pattern and text, whatever the pattern: nothing backtracks and
nothing recurses. Knows no pattern syntax; that is :mod:`buildkit_session.fsutil.glob`.

Theory of operation. A pattern of n elements has n + 1 positions; position i means "the first i elements have matched".
The positions of all patterns lie side by side in one integer, so that a handful of operations on integers advances
every pattern at once. What a set of positions becomes on a character is remembered (a deterministic automaton, built as
texts ask for it), so that a usual character costs one dictionary lookup. What is remembered is bounded and can be
forgotten at any time.

Example, the pattern ``a*b`` as ``[One("a"), Many(not "/"), One("b")]``, reading ``axb``::

    start  0001            position 0
    a      0010            position 1, and 2 as well, since Many may match nothing
    x      0010            Many took it
    b      1010            position 3 is final: matched; Many could have taken it, too
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = ["Automaton", "CharSet", "Check", "Element", "Gap", "Many", "One", "State", "complement", "single"]

CharSet: TypeAlias = tuple[tuple[str, str], ...]
"""A set of characters as inclusive ranges."""

MEMORY: Final = 16 << 20
"""Bytes that may be spent on remembered transitions, roughly; as much again on what takes a character."""


def single(char: str) -> CharSet:
    """Return the set of one character."""
    return ((char, char),)


def complement(chars: CharSet) -> CharSet:
    """Return every character that is not in ``chars``."""
    others = []
    next_code = 0
    for low, high in sorted(chars):
        if ord(low) > next_code:
            others.append((chr(next_code), chr(ord(low) - 1)))
        next_code = max(next_code, ord(high) + 1)
    if next_code <= sys.maxunicode:
        others.append((chr(next_code), chr(sys.maxunicode)))
    return tuple(others)


@dataclass(frozen=True, slots=True)
class One:
    """Exactly one character of the set."""

    chars: CharSet


@dataclass(frozen=True, slots=True)
class Many:
    """Any number of characters of the set, also none."""

    chars: CharSet


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing, or anything without a line feed that ends in a slash: the regular expression ``(.*/)?``."""


class Check(Enum):
    """A condition between two characters; takes none."""

    START = auto()
    END = auto()
    WORD_BOUNDARY = auto()
    NO_WORD_BOUNDARY = auto()


Element: TypeAlias = One | Many | Gap | Check


class State:
    """Where every pattern stands after some text. Made by :class:`Automaton` only."""

    __slots__ = ("before", "generation", "hits", "moves", "opened", "positions")

    def __init__(self, positions: int, opened: int, *, before: bool | None, generation: int) -> None:
        # The positions reached, before passing over what may match nothing.
        self.positions = positions
        # The gaps that have been reached and may end at the next slash.
        self.opened = opened
        # Whether the last character was a letter, digit or underscore of ASCII; None before the first.
        self.before = before
        # Which memory of the automaton this state belongs to; as long as that lasts, its moves are used and added to.
        self.generation = generation
        # The numbers of the patterns that match the text, in order; None until somebody asks.
        self.hits: tuple[int, ...] | None = None
        # The states that characters lead to, as far as known.
        self.moves: dict[str, State] = {}


class Automaton:
    """Matches texts against numbered patterns, all at once. Not for use by two threads at a time."""

    def __init__(self, patterns: Iterable[Sequence[Element]]) -> None:
        places: dict[type[Many | Gap] | Check, list[int]] = defaultdict(list)
        takers: dict[CharSet, list[int]] = defaultdict(list)
        starts: list[int] = []
        finals: list[int] = []
        position = 0
        for elements in patterns:
            starts.append(position)
            for element in elements:
                if isinstance(element, One | Many):
                    takers[element.chars].append(position)
                if not isinstance(element, One):
                    places[element if isinstance(element, Check) else type(element)].append(position)
                position += 1
            finals.append(position)
            position += 1
        self._width = position
        self._starts = starts
        self._finals = finals
        self._number_of = {final: number for number, final in enumerate(finals)}
        self._final_mask = self._mask(finals)
        self._loops = self._mask(places[Many])
        self._gaps = self._mask(places[Gap])
        self._checks = {check: self._mask(places[check]) for check in Check}
        # Sets of one character are looked up, only true sets are searched.
        self._single_takers = {chars[0][0]: at for chars, at in takers.items() if _is_single(chars)}
        self._set_takers = [(chars, at) for chars, at in takers.items() if not _is_single(chars)]
        self._passing: dict[tuple[bool | None, bool | None], int] = {}
        self._taking: dict[str, int] = {}
        self._interned: dict[tuple[int, int, bool | None], State] = {}
        self._generation = 0
        self._known_moves = 0
        # A move may bring a new state, which has two integers.
        self._max_moves = max(64, MEMORY // (position // 4 + 256))
        self._max_taking = max(64, MEMORY // (position // 8 + 128))
        self.start: Final = self._intern(self._mask(starts), 0, before=None)

    def run(self, state: State, text: str) -> State:
        """Return the state that ``text`` leads to from ``state``."""
        if self._known_moves >= self._max_moves:
            self._forget()
        if state.generation != self._generation:
            state = self._intern(state.positions, state.opened, before=state.before)
        for char in text:
            state = state.moves.get(char) or self._advance(state, char)
        return state

    def hits(self, state: State) -> tuple[int, ...]:
        """Return the numbers of the patterns that match the text ending here, ascending."""
        if state.hits is None:
            reached = _flood(state.positions, self._passable(state.before, None)) & self._final_mask
            state.hits = self._numbers(reached)
        return state.hits

    def region(self, numbers: Iterable[int]) -> int:
        """Return a mask of those patterns, for :meth:`can_continue`."""
        return self._mask([at for n in numbers for at in range(self._starts[n], self._finals[n])])

    def can_continue(self, state: State, region: int) -> bool:
        """Tell whether more text could lead to a match of a pattern in ``region``; ``True`` may be wrong."""
        return bool((state.positions | state.opened) & region)

    def _advance(self, state: State, char: str) -> State:
        after = _is_word(char)
        positions = _flood(state.positions, self._passable(state.before, after))
        opened = state.opened
        if arrived := positions & self._gaps:
            opened |= arrived
        taken = positions & self._takers(char)
        stayed = taken & self._loops
        moved = (taken ^ stayed) << 1
        if char == "/":
            moved |= opened << 1
        elif char == "\n":
            opened = 0
        following = state.moves[char] = self._intern(stayed | moved, opened, before=after)
        self._known_moves += 1
        return following

    def _intern(self, positions: int, opened: int, *, before: bool | None) -> State:
        key = (positions, opened, before)
        state = self._interned.get(key)
        if state is None:
            state = State(positions, opened, before=before, generation=self._generation)
            self._interned[key] = state
        return state

    def _forget(self) -> None:
        # Callers may hold states, which stay valid, but must not keep the others alive.
        for state in self._interned.values():
            state.moves.clear()
        self._interned.clear()
        self._generation += 1
        self._known_moves = 0

    def _passable(self, before: bool | None, after: bool | None) -> int:
        """Return the positions whose element matches nothing between two such characters."""
        passable = self._passing.get((before, after))
        if passable is None:
            passable = self._passing[before, after] = self._find_passable(before, after)
        return passable

    def _find_passable(self, before: bool | None, after: bool | None) -> int:
        boundary = Check.WORD_BOUNDARY if bool(before) != bool(after) else Check.NO_WORD_BOUNDARY
        passable = self._loops | self._gaps | self._checks[boundary]
        if before is None:
            passable |= self._checks[Check.START]
        if after is None:
            passable |= self._checks[Check.END]
        return passable

    def _takers(self, char: str) -> int:
        """Return the positions whose element takes ``char``."""
        mask = self._taking.get(char)
        if mask is None:
            positions = list(self._single_takers.get(char, ()))
            for chars, at in self._set_takers:
                if any(low <= char <= high for low, high in chars):
                    positions += at
            if len(self._taking) >= self._max_taking:
                self._taking.clear()
            mask = self._taking[char] = self._mask(positions)
        return mask

    def _mask(self, positions: Collection[int]) -> int:
        # By way of bytes: setting bits one at a time would copy the integer for each.
        if not positions:
            return 0
        octets = bytearray(self._width // 8 + 1)
        for position in positions:
            octets[position >> 3] |= 1 << (position & 7)
        return int.from_bytes(octets, "little")

    def _numbers(self, finals: int) -> tuple[int, ...]:
        numbers = []
        while finals:
            lowest = finals & -finals
            numbers.append(self._number_of[lowest.bit_length() - 1])
            finals ^= lowest
        return tuple(numbers)


def _flood(positions: int, passable: int) -> int:
    """Add to ``positions`` what is reached from them over passable positions.

    One addition does it: in a run of passable positions, adding a reached one makes a carry ripple from there to the
    first position after the run. Passable 0111000, reached 0010000 (lowest position on the left): the sum is 0100100,
    it differs from the passable ones in 0011100, which is everything reached.
    """
    return positions | (((positions & passable) + passable) ^ passable)


def _is_single(chars: CharSet) -> bool:
    return len(chars) == 1 and chars[0][0] == chars[0][1]


def _is_word(char: str) -> bool:
    return char == "_" or (char.isascii() and char.isalnum())
