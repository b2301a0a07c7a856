"""A terminal of a given size, as far as the display and what it must keep away from one need it."""

from __future__ import annotations

import re

from buildkit_session.cli import cells

_TOKEN = re.compile(
    r"\x1b\[(?P<arguments>[?0-9;]*)(?P<final>[A-Za-z])|(?P<control>[\r\n])|(?P<text>[^\x00-\x1f]+)|.", re.DOTALL
)
_CUT = re.compile(r"\x1b(\[[?0-9;]*)?\Z")


class Terminal:
    """Written to as a program does whose line ends the system turns into CR LF.

    Attributes:
        scrolled: lines that left the screen at the top, oldest first.
        cursor_shown: whether the cursor can be seen.
        colours: the sequences for colour and weight, in order.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.scrolled: list[str] = []
        self.cursor_shown = True
        self.colours: list[str] = []
        self._lines: list[list[str]] = [[]]  # of the screen; a wide character and an empty one fill two columns
        self._row = 0
        self._column = 0
        self._cut = ""  # the beginning of a sequence whose end has not come yet

    @property
    def lines(self) -> list[str]:
        """What can be seen, without spaces at the ends of lines and empty lines at the end."""
        lines = ["".join(line).rstrip() for line in self._lines]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def write(self, text: str) -> Terminal:
        text = self._cut + text
        cut = _CUT.search(text)
        self._cut = cut[0] if cut else ""
        text = text.removesuffix(self._cut)
        for token in _TOKEN.finditer(text):
            if token["text"]:
                for character in token["text"]:
                    self._put(character)
            elif token["control"]:
                self._control(token["control"])
            elif token["final"]:
                self._sequence(token["arguments"], token["final"])
            else:
                raise AssertionError(f"a character that the display should not send: {token[0]!r} in {text!r}")
        return self

    def resize(self, width: int, height: int) -> None:
        """Break lines that do not fit any more, as most terminals do."""
        pieces = [line[at : at + width] for line in self._lines for at in range(0, max(len(line), 1), width)]
        self._row += len(pieces) - len(self._lines)
        self._lines = pieces
        self.width, self.height = width, height
        while len(self._lines) > height:
            self._scroll()

    def _put(self, character: str) -> None:
        columns = cells.width(character)
        line = self._lines[self._row]
        end = self._column + columns
        assert end < self.width or not columns, f"the last column is written to: {''.join(line)!r}"
        line += [" "] * (self._column - len(line))
        if columns:
            line[self._column : end] = [character, *[""] * (columns - 1)]
            self._column = end
        elif self._column:
            line[self._column - 1] += character

    def _control(self, control: str) -> None:
        self._column = 0
        if control == "\n":
            self._row += 1
            if self._row == len(self._lines):
                self._lines.append([])
            if len(self._lines) > self.height:
                self._scroll()

    def _scroll(self) -> None:
        self.scrolled.append("".join(self._lines.pop(0)).rstrip())
        self._row -= 1

    def _sequence(self, arguments: str, final: str) -> None:
        match arguments, final:
            case _, "A":
                self._row = max(self._row - int(arguments or 1), 0)
            case "", "K":
                del self._lines[self._row][self._column :]
            case "", "J":
                del self._lines[self._row][self._column :]
                del self._lines[self._row + 1 :]
            case "?25", "h" | "l":
                self.cursor_shown = final == "h"
            case _, "m":
                self.colours.append(f"\x1b[{arguments}m")
            case _:
                raise AssertionError(f"a sequence that the display should not send: {arguments!r} {final!r}")
