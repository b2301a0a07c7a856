r"""Pattern syntax: text to the elements of an automaton.

There are two grammars, and Docker applies both to one pattern:

- Go's ``filepath.Match`` decides whether a pattern is well formed, and matches names when links are followed.
- For ignore and include patterns Docker writes a Go regular expression. The rewriting does not know about brackets
  (``[?]`` becomes ``[[^/]]``) and hands escapes over as they are (``\d`` is any digit). So that every pattern means
  here what it means there, the same two steps are taken: rewrite, then read the few constructs that can come out.

Two things are left out. The escapes ``\p``, ``\P``, ``\Q``, ``\x`` and octal numbers are refused. And ``|``, ``{`` and
``}`` are plain characters, as documented and as meant upstream: there, an overflow in the table of characters to escape
makes ``a|b*`` match everything that starts with "a".

Source: golang/go:src/path/filepath/match.go; golang/go:src/regexp/syntax/parse.go;
moby/patternmatcher:patternmatcher.go (Pattern.compile).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from buildkit_session.fsutil.automaton import Check, Gap, Many, One, complement, single

if TYPE_CHECKING:
    from buildkit_session.fsutil.automaton import CharSet, Element

__all__ = ["PatternError", "has_wildcard", "parse_docker_pattern", "parse_name_pattern"]

NOT_SLASH: Final = complement(single("/"))
NOT_NEWLINE: Final = complement(single("\n"))


class PatternError(ValueError):
    """A pattern is malformed; the text says how, the caller adds which."""


def has_wildcard(name: str) -> bool:
    """Tell whether ``name`` has an unescaped ``*``, ``?`` or ``[``."""
    chars = iter(name)
    for char in chars:
        if char == "\\":
            next(chars, None)
        elif char in "*?[":
            return True
    return False


# --- filepath.Match ---------------------------------------------------------------------------------------------------


def parse_name_pattern(pattern: str) -> list[Element]:
    """Read ``pattern`` as Go's ``filepath.Match`` does.

    Raises:
        PatternError: it is malformed.
    """
    elements: list[Element] = []
    at = 0
    while at < len(pattern):
        if pattern[at] == "*":
            elements.append(Many(NOT_SLASH))
            at += 1
        elif pattern[at] == "?":
            elements.append(One(NOT_SLASH))
            at += 1
        elif pattern[at] == "[":
            chars, at = _name_class(pattern, at + 1)
            elements.append(One(chars))
        else:
            at = _after_backslash(pattern, at)
            elements.append(One(single(pattern[at])))
            at += 1
    return elements


def _name_class(pattern: str, at: int) -> tuple[CharSet, int]:
    """Read a class from behind its ``[``; returns what it holds and the index behind its ``]``."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern.startswith("]", at)):
        low, at = _name_class_char(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _name_class_char(pattern, at + 1)
        ranges.append((low, high))
    # A range that runs backwards is legal, and empty.
    chars = tuple((low, high) for low, high in ranges if low <= high)
    return complement(chars) if negated else chars, at + 1


def _name_class_char(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] in {"", "-", "]"}:
        raise PatternError("a [ is not closed, or its class is malformed")
    at = _after_backslash(pattern, at)
    return pattern[at], at + 1


def _after_backslash(pattern: str, at: int) -> int:
    """Return the index of the character meant at ``at``, which an escape puts one further on."""
    at += pattern[at] == "\\"
    if at == len(pattern):
        raise PatternError("nothing follows the last backslash")
    return at


# --- Docker's regular expressions -------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"\*\*/?|\*|\?|\\.|[.+()|{}$]", re.DOTALL)
"""What the rewriting touches. Alternatives without repetition: nothing to backtrack into."""


def parse_docker_pattern(pattern: str) -> list[Element]:
    """Read ``pattern`` as Docker does: what :func:`parse_name_pattern` takes, plus ``**``.

    Raises:
        PatternError: it is malformed for either grammar.
    """
    parse_name_pattern(pattern)
    return _RegexpReader(_TOKEN.sub(_rewrite, pattern)).read()


def _rewrite(token: re.Match[str]) -> str:
    text = token[0]
    if text in {"**", "**/"}:
        return ".*" if token.end() == len(token.string) else "(.*/)?"
    if text == "*":
        return "[^/]*"
    if text == "?":
        return "[^/]"
    return text if text.startswith("\\") else "\\" + text


_DIGITS: Final = (("0", "9"),)
_LETTERS: Final = (("A", "Z"), ("a", "z"))
_WORD: Final = (*_DIGITS, *_LETTERS, ("_", "_"))
_BLANKS: Final = ((" ", " "), ("\t", "\n"), ("\f", "\r"))

_ESCAPED_SETS: Final[dict[str, CharSet]] = {
    "d": _DIGITS,
    "D": complement(_DIGITS),
    "s": _BLANKS,
    "S": complement(_BLANKS),
    "w": _WORD,
    "W": complement(_WORD),
}
_ESCAPED_CHARS: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPED_CHECKS: Final = {
    "A": Check.START,
    "z": Check.END,
    "b": Check.WORD_BOUNDARY,
    "B": Check.NO_WORD_BOUNDARY,
}
_NAMED_SETS: Final[dict[str, CharSet]] = {
    "alnum": (*_DIGITS, *_LETTERS),
    "alpha": _LETTERS,
    "ascii": (("\0", "\x7f"),),
    "blank": (("\t", "\t"), (" ", " ")),
    "cntrl": (("\0", "\x1f"), ("\x7f", "\x7f")),
    "digit": _DIGITS,
    "graph": (("!", "~"),),
    "lower": (("a", "z"),),
    "print": ((" ", "~"),),
    "punct": (("!", "/"), (":", "@"), ("[", "`"), ("{", "~")),
    "space": ((" ", " "), ("\t", "\r")),
    "upper": (("A", "Z"),),
    "word": _WORD,
    "xdigit": (*_DIGITS, ("A", "F"), ("a", "f")),
}


class _RegexpReader:
    """Reads the regular expressions that :func:`_rewrite` can write, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> list[Element]:
        elements = []
        while self._at < len(self._text):
            elements.append(self._element())
        return elements

    def _element(self) -> Element:
        if self._skip("(.*/)?"):
            return Gap()
        if self._skip(".*"):
            return Many(NOT_NEWLINE)
        if self._skip("^"):
            return Check.START
        if self._skip("["):
            chars = self._class()
            return Many(chars) if self._skip("*") else One(chars)
        if self._skip("\\"):
            return self._escape()
        return One(single(self._take()))

    def _escape(self) -> Element:
        char = self._take()
        if char in _ESCAPED_CHECKS:
            return _ESCAPED_CHECKS[char]
        if char in _ESCAPED_SETS:
            return One(_ESCAPED_SETS[char])
        return One(single(_escaped(char)))

    def _class(self) -> CharSet:
        """Read a class from behind its ``[`` up to and with its ``]``."""
        negated = self._skip("^")
        ranges: list[tuple[str, str]] = []
        first = True
        while first or not self._skip("]"):
            ranges += self._class_item()
            first = False
        return complement(tuple(ranges)) if negated else tuple(ranges)

    def _class_item(self) -> CharSet:
        named = self._named_set() or self._escaped_set()
        if named:
            return named
        low = high = self._class_char()
        if self._text.startswith("-", self._at) and not self._text.startswith("]", self._at + 1):
            self._take()
            high = self._class_char()
        if high < low:
            raise PatternError(f"the range {low}-{high} runs backwards")
        return ((low, high),)

    def _named_set(self) -> CharSet | None:
        """Read ``[:name:]`` or ``[:^name:]``, if that is what follows."""
        end = self._text.find(":]", self._at + 2)
        if end < 0 or not self._text.startswith("[:", self._at):
            return None
        name = self._text[self._at + 2 : end]
        self._at = end + 2
        chars = _NAMED_SETS.get(name.removeprefix("^"))
        if chars is None:
            raise PatternError(f"there is no class [:{name}:]")
        return complement(chars) if name.startswith("^") else chars

    def _escaped_set(self) -> CharSet | None:
        if not self._text.startswith("\\", self._at):
            return None
        chars = _ESCAPED_SETS.get(self._text[self._at + 1 : self._at + 2])
        if chars is not None:
            self._at += 2
        return chars

    def _class_char(self) -> str:
        char = self._take()
        return _escaped(self._take()) if char == "\\" else char

    def _skip(self, token: str) -> bool:
        found = self._text.startswith(token, self._at)
        if found:
            self._at += len(token)
        return found

    def _take(self) -> str:
        if self._at == len(self._text):
            raise PatternError("a [ is not closed")
        self._at += 1
        return self._text[self._at - 1]


def _escaped(char: str) -> str:
    """Return the character that a backslash and ``char`` mean."""
    if char in _ESCAPED_CHARS:
        return _ESCAPED_CHARS[char]
    if char.isascii() and not char.isalnum():
        return char
    raise PatternError(f"the escape \\{char} is not known")
