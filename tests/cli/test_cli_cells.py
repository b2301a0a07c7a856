"""Room on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.cli import cells


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("abc", 3), ("\u00fc", 1), ("u\u0308", 1), ("\u6f22\u5b57", 4), ("\uff21", 2), ("\U0001f600", 2)],
)
def test_width(text: str, columns: int) -> None:
    assert cells.width(text) == columns


def test_a_character_is_not_cut_in_two() -> None:
    assert cells.cut("\u6f22\u5b57", 3) == "\u6f22"
    assert cells.cut("abc", 2) == "ab"
    assert cells.cut("abc", -1) == ""


@given(st.text(max_size=30), st.integers(2, 10))
def test_wrapped_text_is_whole_and_fits(text: str, columns: int) -> None:
    pieces = cells.wrap(text, columns)
    assert "".join(pieces) == text
    assert all(cells.width(piece) <= columns for piece in pieces)
