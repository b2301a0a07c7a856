"""Columns as Go's tabwriter makes them."""

from __future__ import annotations

import pytest

from buildkit_session.engine.columns import aligned


@pytest.mark.parametrize(
    ("text", "lined_up"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("a\nb\n", "a\nb\n", id="no-cells"),
        pytest.param("a\tb\nccc\td\n", "a   b\nccc d\n", id="widest"),
        pytest.param("aaa\t\nb\t\n", "aaa \nb   \n", id="last-cell-is-empty"),
        pytest.param("\tb\n\td\n", " b\n d\n", id="column-of-nothing"),
        pytest.param("aaaa\tb\nno\nc\td\n", "aaaa b\nno\nc d\n", id="a-line-without-ends-the-column"),
        pytest.param("a\tbbb\tc\nd\te\nf\tg\th\n", "a bbb c\nd e\nf g h\n", id="inner-column-ends-alone"),
        pytest.param("ü\tb\naa\td\n", "ü  b\naa d\n", id="characters-not-bytes"),
    ],
)
def test_columns(text: str, lined_up: str) -> None:
    assert aligned(text, padding=1) == lined_up


def test_padding() -> None:
    assert aligned("a\tb\n", padding=3) == "a   b\n"
