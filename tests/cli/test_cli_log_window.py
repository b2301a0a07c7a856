"""The last lines of a step's output."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.cli import cells
from buildkit_session.cli.log_window import LogWindow

fragments = st.lists(
    st.sampled_from(
        ["a", "bc", "\n", "\r", "\b", "\t", "\x1b[K", "\x1b[31m", "\x1b]0;t\x07", "\x1b", "[", "\u6f22", "\x9b"]
    ),
    max_size=30,
).map("".join)


def shown(text: str, columns: int = 20, rows: int = 5) -> list[str]:
    window = LogWindow()
    window.write(text)
    return window.show(columns, rows)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb\n", ["a", "b"]),
        ("a\n\n \nb", ["a", "b"]),
        ("10%\r20%\r30%", ["30%"]),
        ("100%\r20%", ["20%%"]),
        ("100%\r\x1b[K20%", ["20%"]),
        ("abc\x1b[2Kd", ["   d"]),
        ("abcd\b\b\x1b[1K", ["  cd"]),
        ("abc\bd", ["abd"]),
        ("\b\ba", ["a"]),
        ("a\tb", ["a       b"]),
        ("\x1b[31mred\x1b[0m \x1b[2J\x1b[5Aup", ["red up"]),
        ("\x1b]0;title\x07x\x1b]8;;u\x1b\\y", ["xy"]),
        ("\x1b(Bx\x1b7y\x00z", ["xyz"]),
        ("\x9b31mx \u202ey", ["\\x9b31mx \\u202ey"]),
        ("\udcff", ["\\udcff"]),
    ],
)
def test_text_is_shown_as_a_terminal_would(text: str, lines: list[str]) -> None:
    assert shown(text) == lines


def test_the_last_lines_are_kept() -> None:
    assert shown("".join(f"{n}\n" for n in range(1000))) == ["995", "996", "997", "998", "999"]


def test_long_lines_are_wrapped() -> None:
    assert shown("x" * 45, columns=20) == ["x" * 20, "x" * 20, "x" * 5]
    assert shown("x" * 45, columns=20, rows=2) == ["x" * 20, "x" * 5]


def test_an_endless_line_is_bounded() -> None:
    window = LogWindow()
    for _ in range(100):
        window.write("x" * 1000 + "\t")
    assert len("".join(window.show(100, 1000))) == 4096


@given(fragments, st.integers(0, 30), st.integers(2, 20), st.integers(1, 6))
def test_what_is_shown_fits_and_is_printable(text: str, cut: int, columns: int, rows: int) -> None:
    lines = shown(text, columns, rows)
    assert len(lines) <= rows
    assert all(line.isprintable() and cells.width(line) <= columns for line in lines)


@given(fragments, st.lists(st.integers(0, 60), max_size=5))
def test_it_does_not_matter_how_the_text_is_cut(text: str, cuts: list[int]) -> None:
    window = LogWindow()
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    for begin, end in pairwise(edges):
        window.write(text[begin:end])
        window.show(20, 5)
    assert window.show(20, 5) == shown(text)
