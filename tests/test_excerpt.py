"""Excerpts of source files look as those of buildx."""

from __future__ import annotations

import textwrap

import pytest

from buildkit_session.excerpt import MOST_LINES, excerpt
from buildkit_session.source import Position, SourceFile, SourceRange

LINES = [f"line {number}" for number in range(1, 11)]


def ranges(*spans: tuple[int, int]) -> list[SourceRange]:
    return [SourceRange(Position(start), Position(end)) for start, end in spans]


def shown(*spans: tuple[int, int], text: str = "\n".join(LINES)) -> dict[int, bool]:
    """Which lines an excerpt shows, and whether it marks them."""
    body = excerpt(SourceFile("Dockerfile", text.encode()), ranges(*spans)).splitlines()[2:-1]
    return {int(line.split("|")[0]): line.split("|")[1].startswith(" >>>") for line in body}


def test_layout() -> None:
    """The place, a ruler, numbered lines with their mark, a ruler."""
    text = "FROM scratch\nCOPY missing /\n"

    assert excerpt(SourceFile("sub/Dockerfile", text.encode()), ranges((2, 2))) == textwrap.dedent("""\
        sub/Dockerfile:2
        --------------------
           1 |     FROM scratch
           2 | >>> COPY missing /
           3 |     \n\
        --------------------
        """)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([(5, 5)], range(3, 8), id="one-in-the-middle-with-two-around"),
        pytest.param([(5, 6)], range(4, 8), id="several-with-one-around"),
        pytest.param([(5, 0)], range(3, 8), id="without-an-end"),
        pytest.param([(1, 1)], range(1, 4), id="first"),
        pytest.param([(2, 2)], range(1, 5), id="second"),
        pytest.param([(10, 10)], range(8, 11), id="last"),
        pytest.param([(9, 9)], range(7, 11), id="last-but-one"),
        pytest.param([(1, 2)], range(1, 4), id="several-at-the-start"),
        pytest.param([(1, 10)], range(1, 11), id="all"),
        pytest.param([(9, 99)], range(8, 11), id="beyond-the-end"),
        pytest.param([(4, 4), (5, 5), (6, 6)], range(3, 8), id="each-line-alone"),
        pytest.param([(4, 7), (5, 5), (5, 6)], range(3, 9), id="one-in-another"),
        pytest.param([(7, 7), (3, 3)], range(2, 9), id="two-ranges-and-what-is-between"),
        pytest.param([(11, 11)], (), id="after-the-file"),
        pytest.param([(0, 4)], (), id="before-the-file"),
        pytest.param([], (), id="no-range"),
    ],
)
def test_lines_around(spans: list[tuple[int, int]], expected: range | tuple[int, ...]) -> None:
    """How many lines surround those that matter, and that these alone are marked."""
    assert shown(*spans) == {
        number: any(start <= number <= max(start, end) for start, end in spans) for number in expected
    }


def test_a_file_of_one_line() -> None:
    assert shown((1, 1), text="FROM") == {1: True}


def test_any_bytes_can_be_shown() -> None:
    assert "caf\N{REPLACEMENT CHARACTER}" in excerpt(SourceFile("f", b"caf\xe9"), ranges((1, 1)))


def test_hostile_sizes_are_bounded() -> None:
    """A file of newlines and a crowd of ranges cost no more than the largest excerpt."""
    source = SourceFile("f", b"\n" * 10 * MOST_LINES)
    text = excerpt(source, ranges((1, 2**31 - 1)) * MOST_LINES)
    assert text.count("\n") == MOST_LINES + 3
