"""Text in columns, as Go's programs lay it out.

A column ends where a line lacks it: lines below may have another width. So tables of different shapes can follow each
other in one text.

Source: golang/go:src/text/tabwriter/tabwriter.go (format, writeLines), without flags.
"""

from __future__ import annotations

from typing import Final

__all__ = ["aligned", "tabbed"]

_TAB: Final = 8


def aligned(text: str, *, padding: int, narrowest: int = 0) -> str:
    """Line up the cells of ``text``: each cell but the last of a line ends with a tab, which becomes spaces.

    Args:
        text: whole lines.
        padding: spaces between the widest cell of a column and the next column.
        narrowest: the least width of a column, its padding included.

    Returns:
        The same lines; a line whose last cells are empty keeps their spaces.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    return "\n".join(
        "".join(cell.ljust(max(width, narrowest)) for cell, width in zip(cells[:-1], own, strict=True)) + cells[-1]
        for cells, own in zip(lines, _widths(lines, padding), strict=True)
    )


def tabbed(text: str) -> str:
    """Line up the cells of ``text`` as :func:`aligned` does, with as many tabs as it takes on a terminal."""
    lines = [line.split("\t") for line in text.split("\n")]
    return "\n".join(
        "".join(cell + "\t" * _tabs(len(cell), width) for cell, width in zip(cells[:-1], own, strict=True)) + cells[-1]
        for cells, own in zip(lines, _widths(lines, 1), strict=True)
    )


def _tabs(filled: int, width: int) -> int:
    end = -(-width // _TAB) * _TAB
    return -(-(end - filled) // _TAB)


def _widths(lines: list[list[str]], padding: int) -> list[list[int]]:
    widths: list[list[int]] = [[0] * (len(cells) - 1) for cells in lines]
    for column in range(max(map(len, widths))):
        _measure(column, lines, widths, padding)
    return widths


def _measure(column: int, lines: list[list[str]], widths: list[list[int]], padding: int) -> None:
    """Give each run of lines that have ``column`` the width of its widest cell."""
    run: list[int] = []
    for number, own in enumerate([*widths, []]):
        if column < len(own):
            run.append(number)
            continue
        width = max((len(lines[line][column]) for line in run), default=0) + padding
        for line in run:
            widths[line][column] = width
        run.clear()
