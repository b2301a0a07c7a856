"""The grammar of command lines, as the docker CLI has it.

``--name value``, ``--name=value``, ``-n value``, ``-nvalue``, ``-n=value``; switches without values share one dash
(``-qtname``) and take ``--name=false``; flags and operands mix; ``--`` ends the flags; names are never abbreviated; a
value may begin with a dash. The standard library's argparse refuses the last and cannot take an optional ``=false``, so
a command line that docker accepts would fail there.

Facts from spf13/pflag:flag.go (FlagSet.parseArgs, parseLongArg, parseSingleShortArg).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from buildkit_session.truth import FALSE, TRUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["CommandLine", "Flag", "UsageError", "describe", "parse"]


class UsageError(Exception):
    """The command line breaks the grammar; the text is for the person who typed it.

    Attributes:
        unknown: the name of the flag that nobody knows, if that is the reason.
    """

    def __init__(self, text: str, *, unknown: str = "") -> None:
        super().__init__(text)
        self.unknown = unknown


class Flag(NamedTuple):
    """One flag.

    Attributes:
        name: long name without dashes.
        help: what it does, for ``--help``.
        value: what ``--help`` calls its value; empty for a switch.
        short: one letter, or empty.
        hidden: whether ``--help`` leaves it out.
    """

    name: str
    help: str
    value: str = ""
    short: str = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line taken apart.

    Attributes:
        values: for each flag that was given, its values in the order of the command line.
        operands: the words that are neither flags nor values.
    """

    values: dict[str, list[str]] = field(default_factory=dict)
    operands: list[str] = field(default_factory=list)

    def fill_from(self, other: CommandLine) -> None:
        """Take from ``other`` the flags that were not given here."""
        for name, values in other.values.items():
            self.values.setdefault(name, values)

    def all(self, name: str) -> list[str]:
        """Every value of a repeatable flag."""
        return self.values.get(name, [])

    def last(self, name: str) -> str | None:
        """The value of a flag; the last one counts."""
        values = self.all(name)
        return values[-1] if values else None

    def is_set(self, name: str) -> bool:
        """Whether a switch is on; the last one counts."""
        return self.last(name) in TRUE


def parse(flags: Sequence[Flag], argv: Sequence[str], *, mixed: bool = True) -> CommandLine:
    """Take ``argv`` apart.

    Args:
        flags: the flags known here.
        argv: words, the name of the program or command excluded.
        mixed: whether flags may follow an operand. If not, the first operand and all that follows are operands.

    Raises:
        UsageError: an unknown flag, a missing value, or a switch with a value that is neither true nor false.
    """
    return _Parser(flags, argv, mixed=mixed).parse()


class _Parser:
    def __init__(self, flags: Sequence[Flag], argv: Sequence[str], *, mixed: bool) -> None:
        self._long = {flag.name: flag for flag in flags}
        self._short = {flag.short: flag for flag in flags if flag.short}
        self._words = iter(argv)
        self._mixed = mixed
        self._found = CommandLine()

    def parse(self) -> CommandLine:
        for word in self._words:
            if word == "--":
                self._found.operands.extend(self._words)
            elif word.startswith("--"):
                self._take_long(word)
            elif word.startswith("-") and word != "-":
                self._take_short(word)
            else:
                self._take_operand(word)
        return self._found

    def _take_operand(self, word: str) -> None:
        self._found.operands.append(word)
        if not self._mixed:
            self._found.operands.extend(self._words)

    def _take_long(self, word: str) -> None:
        name, separator, value = word[2:].partition("=")
        flag = self._long.get(name)
        if flag is None:
            raise UsageError(f"unknown flag: --{name}", unknown=name)
        if separator:
            self._add(flag, value, spelled=f"--{name}")
        elif flag.value:
            self._add(flag, self._next_word(f"flag needs an argument: --{name}"), spelled=f"--{name}")
        else:
            self._add(flag, "true", spelled=f"--{name}")

    def _take_short(self, word: str) -> None:
        """Take ``-n``, ``-nvalue``, ``-n=value``, ``-n value`` or several switches that may end in one of these."""
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self._short.get(letter)
            if flag is None:
                raise UsageError(f"unknown shorthand flag: {letter!r} in {word}")
            if letters.startswith("="):
                self._add(flag, letters[1:], spelled=f"-{letter}")
                return
            if flag.value:
                value = letters or self._next_word(f"flag needs an argument: {letter!r} in {word}")
                self._add(flag, value, spelled=f"-{letter}")
                return
            self._add(flag, "true", spelled=f"-{letter}")

    def _next_word(self, complaint: str) -> str:
        for word in self._words:
            return word
        raise UsageError(complaint)

    def _add(self, flag: Flag, value: str, *, spelled: str) -> None:
        if not flag.value and value not in TRUE | FALSE:
            raise UsageError(f"invalid argument {value!r} for {spelled}: expected true or false")
        self._found.values.setdefault(flag.name, []).append(value)


def describe(flags: Sequence[Flag], *, width: int = 80) -> str:
    """Format the flags for ``--help``, one below the other, the explanations in a column of their own."""
    shown = [flag for flag in flags if not flag.hidden]
    heads = {flag.name: _head(flag) for flag in shown}
    column = max(map(len, heads.values())) + 3
    return "\n".join(line for flag in shown for line in _rows(heads[flag.name], flag.help, column, width))


def _head(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    return f"  {short}--{flag.name} {flag.value}".rstrip()


def _rows(head: str, explanation: str, column: int, width: int) -> Iterator[str]:
    import textwrap  # noqa: PLC0415 - only help is wrapped, and its patterns take their time

    for number, line in enumerate(textwrap.wrap(explanation, max(width - column, 20), break_on_hyphens=False)):
        yield (head if number == 0 else "").ljust(column) + line
