r"""The last lines that a step printed, as a small terminal would show them.

A carriage return goes back to the start of the line and a backspace one column, so that a progress bar drawn with them
is one line; ``ESC [ K`` erases. Every other control sequence is left out: the window stands inside a display that moves
the cursor itself. What remains is printable.

Upstream runs an emulator (tonistiigi/vt100) instead, which also obeys sequences that move between lines.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from buildkit_session.cli.cells import wrap
from buildkit_session.printable import printable

__all__ = ["LogWindow"]

_MOST_LINES: Final = 100  # more than a window ever has
_MOST_CHARACTERS: Final = 4096  # of a line that never ends
_MOST_UNREAD: Final = 64 * 1024  # characters
_TAB: Final = 8

# A control sequence (ECMA-48, section 5.4), a control string up to its end, another escape, a control character, text.
_TOKEN: Final = re.compile(
    r"\x1b\[(?P<arguments>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-~]?"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    r"|(?P<text>[^\x00-\x1f\x7f]+)"
)
# What may be the beginning of a sequence that was cut in two, and how far its end is waited for.
_CUT: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)\Z")
_LONGEST_CUT: Final = 256


class LogWindow:
    """Written to piece by piece.

    Attributes:
        printed: characters so far.
    """

    def __init__(self) -> None:
        self.printed = 0
        self._unread: list[str] = []  # taken in when the window is shown: most of it will have scrolled away by then
        self._unread_size = 0
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._line: list[str] = []  # the one that is not ended, a character each
        self._column = 0
        self._cut = ""

    def write(self, text: str) -> None:
        """Note what was printed."""
        self.printed += len(text)
        self._unread.append(text)
        self._unread_size += len(text)
        if self._unread_size > _MOST_UNREAD:
            self._take_in()

    def show(self, columns: int, rows: int) -> list[str]:
        """Return the last lines that are not blank, at most ``rows``, each at most ``columns`` wide."""
        self._take_in()
        lines = [line for line in (*self._lines, "".join(self._line)) if line.strip()]
        pieces = [piece for line in lines[-rows:] for piece in wrap(line, max(columns, 2)) if piece.strip()]
        return pieces[-rows:]

    def _take_in(self) -> None:
        text = self._cut + "".join(self._unread)
        self._unread.clear()
        self._unread_size = 0
        cut = _CUT.search(text, max(len(text) - _LONGEST_CUT, 0))
        self._cut = cut[0] if cut else ""
        first, *rest = text.removesuffix(self._cut).split("\n")
        self._add(first)
        for line in rest[-_MOST_LINES - 1 :]:  # the window would scroll all others away
            self._end_line()
            self._add(line)

    def _end_line(self) -> None:
        self._lines.append("".join(self._line))
        self._line.clear()
        self._column = 0

    def _add(self, text: str) -> None:
        for token in _TOKEN.finditer(text):
            if token["text"]:
                self._put(printable(token["text"]))
            elif token["control"]:
                self._obey(token["control"])
            elif token["final"] == "K":
                self._erase(token["arguments"])

    def _put(self, text: str) -> None:
        text = text[: max(_MOST_CHARACTERS - self._column, 0)]
        self._line += " " * (self._column - len(self._line))
        self._line[self._column : self._column + len(text)] = text
        self._column += len(text)

    def _obey(self, control: str) -> None:
        match control:
            case "\r":
                self._column = 0
            case "\b":
                self._column = max(self._column - 1, 0)
            case "\t":
                self._put(" " * (_TAB - self._column % _TAB))

    def _erase(self, arguments: str) -> None:
        if arguments in {"1", "2"}:
            self._line[: self._column] = " " * min(self._column, len(self._line))
        if arguments in {"", "0", "2"}:
            del self._line[self._column :]
