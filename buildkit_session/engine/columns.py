"""Text in columns, as Go's programs lay it out.

A column ends where a line lacks it: lines below may have another width. So tables of different shapes can follow each
other in one text.

Source: golang/go:src/text/tabwriter/tabwriter.go (format, writeLines), without flags, padded with spaces.
"""

from __future__ import annotations

__all__ = ["aligned"]


def aligned(text: str, *, padding: int) -> str:
    """Line up the cells of ``text``: each cell but the last of a line ends with a tab, which becomes spaces.

    Args:
        text: whole lines.
        padding: spaces between the widest cell of a column and the next column.

    Returns:
        The same lines; a line whose last cells are empty keeps their spaces.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[0] * (len(cells) - 1) for cells in lines]
    for column in range(max(map(len, widths))):
        _measure(column, lines, widths, padding)
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(cells, [*own, 0], strict=True))
        for cells, own in zip(lines, widths, strict=True)
    )


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
