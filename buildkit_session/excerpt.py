"""The lines of a source file around the ones that matter, as errors and warnings show them.

Owns the choice of lines and the layout; colours and streams belong to the displays.

Source: moby/buildkit:solver/errdefs/source.go (Source.Print).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildkit_session.source import SourceFile, SourceRange

__all__ = ["excerpt"]

RULER: Final = "-" * 20
MARK: Final = ">>>"

CONTEXT: Final = 2
"""What the lines shown beside the ones that matter are counted against."""

CONTEXT_OF_ONE: Final = 4
"""The same when one line matters."""

MOST_LINES: Final = 10_000
"""Of an excerpt; later ones are left out. The daemon chooses the lines, and no instruction is as long."""


def excerpt(source: SourceFile, ranges: Sequence[SourceRange]) -> str:
    """Show the lines that ``ranges`` names, marked, with some around them.

    .. code-block:: text

        Dockerfile:2
        --------------------
           1 |     FROM base
           2 | >>> RUN false
           3 |     RUN true
        --------------------

    Nothing is promised about control characters in the file: make the text printable before a terminal sees it.

    Args:
        source: the file as the daemon saw it.
        ranges: what matters in it; lines count from 1.

    Returns:
        Whole lines, the last with its newline; empty when no range is given or the first line does not exist.
    """
    lines = source.data.decode(errors="replace").split("\n")
    spans = [_span(range_) for range_ in ranges]
    if not spans:
        return ""
    first = min(start for start, _ in spans)
    last = min(max(end for _, end in spans), len(lines))
    if not 1 <= first <= last:
        return ""
    shown = _window(first, last, len(lines))
    body = "".join(_numbered(shown[:MOST_LINES], lines, spans))
    return f"{source.filename}:{first}\n{RULER}\n{body}{RULER}\n"


def _span(range_: SourceRange) -> tuple[int, int]:
    """The first and the last line; an end that is missing, or before the start, is the start."""
    return range_.start.line, max(range_.start.line, range_.end.line)


def _window(first: int, last: int, count: int) -> range:
    """Widen by whole rounds: a round adds a line at each end that has one, and a point more than it added lines.

    So a line in the middle of a file is shown with two above and two below, and several lines with one.
    """
    points, enough = 0, CONTEXT_OF_ONE if first == last else CONTEXT
    while points < enough:
        above, below = first > 1, last < count
        first, last = first - above, last + below
        points += 1 + above + below
    return range(first, last + 1)


def _numbered(numbers: range, lines: Sequence[str], spans: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Number the lines, of which the first is not after any span, in one pass: a frontend may name each line alone."""
    change = Counter(start for start, _ in spans)
    change.subtract(end + 1 for _, end in spans)
    spans_here = 0
    for number in numbers:
        spans_here += change[number]
        mark = MARK if spans_here else " " * len(MARK)
        yield f" {number:3} | {mark} {lines[number - 1]}\n"
