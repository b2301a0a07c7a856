"""Which display is chosen."""

from __future__ import annotations

import pytest

from buildkit_session.cli.displays import MODES, choose_display, choose_mode
from buildkit_session.cli.plain import PlainDisplay
from buildkit_session.cli.quiet import NoDisplay, QuietDisplay
from buildkit_session.cli.rawjson import RawJsonDisplay
from buildkit_session.cli.tty import TtyDisplay
from buildkit_session.engine.events import Vertex, VertexLog
from buildkit_session.errors import InputError


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("plain", PlainDisplay),
        ("tty", TtyDisplay),
        ("rawjson", RawJsonDisplay),
        ("quiet", QuietDisplay),
        ("none", NoDisplay),
        ("auto", TtyDisplay),
    ],
)
def test_every_mode_has_a_display(mode: str, kind: type) -> None:
    assert type(choose_display(mode, terminal=True, environ={})) is kind
    assert {mode} < set(MODES)


@pytest.mark.parametrize(
    ("environ", "on_terminal", "elsewhere"),
    [
        ({}, "tty", "plain"),
        ({"BUILDKIT_PROGRESS": "auto"}, "tty", "plain"),
        ({"BUILDKIT_PROGRESS": "tty"}, "tty", "plain"),
        ({"BUILDKIT_PROGRESS": "plain"}, "plain", "plain"),
        ({"BUILDKIT_PROGRESS": "rawjson"}, "rawjson", "rawjson"),
        ({"BUILDKIT_PROGRESS": "quiet"}, "quiet", "quiet"),
        ({"TERM": "dumb"}, "plain", "plain"),
    ],
)
def test_auto_depends_on_the_terminal_and_the_environment(
    environ: dict[str, str], on_terminal: str, elsewhere: str
) -> None:
    assert choose_mode("auto", terminal=True, environ=environ) == on_terminal
    assert choose_mode("auto", terminal=False, environ=environ) == elsewhere


def test_the_command_line_wins() -> None:
    assert choose_mode("plain", terminal=True, environ={"BUILDKIT_PROGRESS": "nonsense"}) == "plain"


def test_tty_needs_a_terminal() -> None:
    with pytest.raises(InputError, match="needs standard error to be a terminal"):
        choose_mode("tty", terminal=False, environ={})


@pytest.mark.parametrize(("mode", "environ"), [("foo", {}), ("auto", {"BUILDKIT_PROGRESS": "foo"})])
def test_unknown_modes_are_refused(mode: str, environ: dict[str, str]) -> None:
    with pytest.raises(InputError, match="invalid progress mode foo; use auto, none, plain, quiet, rawjson or tty"):
        choose_display(mode, terminal=True, environ=environ)


@pytest.mark.parametrize(("value", "lines"), [("", 6), ("12", 12), ("2", 6), ("-9", 6), ("many", 6), ("9" * 9999, 6)])
def test_the_height_of_windows_comes_from_the_environment(value: str, lines: int) -> None:
    display = choose_display("tty", terminal=True, environ={"BUILDKIT_TTY_LOG_LINES": value})
    display.resize(80, 60)
    display.handle(Vertex("a", "a", started=1))
    display.handle(VertexLog("a", 1, 1, b"x\n" * 50))
    assert display.refresh(0).count(" => => # x") == lines


def test_colours_and_names_are_passed_on() -> None:
    display = choose_display("tty", terminal=True, environ={"NO_COLOR": "1"}, builder="ci", driver="remote")
    display.handle(Vertex("a", "a", started=1, completed=2))
    text = display.refresh(0)
    assert "remote:ci" in text
    assert "\x1b[34m" not in text
    assert (
        '"ci" instance using remote driver'
        in choose_display("plain", terminal=False, environ={}, builder="ci", driver="remote").start()
    )
