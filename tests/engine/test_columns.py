"""Columns as Go's tabwriter makes them."""

from __future__ import annotations

import pytest

from buildkit_session.engine.columns import aligned, tabbed


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


def test_the_least_width() -> None:
    assert aligned("a\tb\tc\n", padding=1, narrowest=4) == "a   b   c\n"


@pytest.mark.parametrize(
    ("text", "lined_up"),
    [
        pytest.param("a\tb\n", "a\tb\n", id="one"),
        pytest.param("1234567\tb\n", "1234567\tb\n", id="just-fits"),
        pytest.param("12345678\tb\n", "12345678\tb\n", id="the-next-stop"),
        pytest.param("1234567890123\tb\nTotal:\t2\n", "1234567890123\tb\nTotal:\t\t2\n", id="short-below-long"),
        pytest.param("12345678\tb\n\na\tb\n", "12345678\tb\n\na\tb\n", id="an-empty-line-ends-the-column"),
    ],
)
def test_tabs(text: str, lined_up: str) -> None:
    assert tabbed(text) == lined_up
