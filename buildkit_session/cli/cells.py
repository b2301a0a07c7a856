"""How much room text takes on a terminal, in columns.

Wide characters (East Asian ones, most emoji) take two, combining ones none. Terminals differ on sequences that join
several characters to one picture; such a line may come out a little too short, never too long.

Source: Unicode Standard Annex 11, "East Asian Width".
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

__all__ = ["cut", "width", "wrap"]


def width(text: str) -> int:
    """Count the columns of ``text``, which must be printable."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut(text: str, columns: int) -> str:
    """Return as much of the beginning as fits into ``columns``."""
    return text[: _fitting(text, columns)]


def wrap(text: str, columns: int) -> list[str]:
    """Cut into pieces that fit into ``columns``, of which there must be two at least: no character is wider."""
    pieces = []
    while text:
        end = _fitting(text, columns)
        pieces.append(text[:end])
        text = text[end:]
    return pieces


def _fitting(text: str, columns: int) -> int:
    """Count the characters that fit."""
    if text.isascii():
        return max(columns, 0)
    for index, character in enumerate(text):
        columns -= _columns(character)
        if columns < 0:
            return index
    return len(text)


@lru_cache(maxsize=4096)
def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
