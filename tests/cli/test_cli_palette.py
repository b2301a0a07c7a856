"""Colours, and how a person chooses them."""

from __future__ import annotations

import pytest

from buildkit_session.cli.palette import Palette, read_palette


def test_by_default() -> None:
    assert read_palette({}) == Palette("\x1b[34m", "\x1b[31m", "\x1b[33m", "\x1b[33m")


def test_no_color_turns_them_off() -> None:
    assert read_palette({"NO_COLOR": "1", "BUILDKIT_COLORS": "run=red"}) == Palette("", "", "", "")
    assert read_palette({"NO_COLOR": ""}) == Palette()


def test_some_are_changed() -> None:
    found = read_palette({"BUILDKIT_COLORS": "RUN=Cyan:error=light-red:cancel=255,128,0:warning=default"})
    assert found == Palette("\x1b[36m", "\x1b[91m", "\x1b[38;5;208m", "\x1b[39m")


@pytest.mark.parametrize(
    "entry", ["run", "run=", "run=pink", "run=1,2", "run=1,2,256", "run=a,b,c", "go=red", "run=a=b"]
)
def test_what_cannot_be_understood_is_logged_and_ignored(entry: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read_palette({"BUILDKIT_COLORS": f"{entry}:error=blue"}) == Palette(error="\x1b[34m")
    assert repr(entry) in caplog.text
