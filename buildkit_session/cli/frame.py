"""Text that stays in its place on a terminal: each frame is drawn over the one before.

No line reaches the last column, so the terminal never wraps one by itself. It does when it becomes narrower: most
terminals then break the lines that no longer fit, and the next frame begins as many rows higher.

The cursor is hidden while a frame is drawn, and shown again within the same text: whoever ends the program between two
frames leaves a usable terminal.

Source: ECMA-48 (CUU, EL, ED); xterm's control sequences (DECTCEM).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Frame", "Line"]

_HIDE_CURSOR: Final = "\x1b[?25l"
_SHOW_CURSOR: Final = "\x1b[?25h"
_ERASE_REST_OF_LINE: Final = "\x1b[K"
_ERASE_BELOW: Final = "\x1b[J"

# The text of a line, with its colours, and its width in columns.
Line: TypeAlias = tuple[str, int]


class Frame:
    """The place of the frames; the cursor is left below it."""

    def __init__(self) -> None:
        self._widths: list[int] = []  # of the lines that are on the screen

    def draw(self, lines: Sequence[Line], *, columns: int, rows: int) -> str:
        """Return what replaces the last frame by ``lines``, on a terminal of this size."""
        above = sum(max(-(-width // columns), 1) for width in self._widths)
        # A terminal remembers which lines it broke, and joins them again when it becomes wider, unless they are erased.
        erase = _ERASE_BELOW if above > len(self._widths) else ""
        above = min(above, max(rows - 1, 0))
        self._widths = [width for _, width in lines]
        up = f"\x1b[{above}A" if above else ""
        body = "".join(f"{text}{_ERASE_REST_OF_LINE}\n" for text, _ in lines)
        return f"{_HIDE_CURSOR}\r{up}{erase}{body}{_ERASE_BELOW}{_SHOW_CURSOR}"
