"""Progress on a terminal: what a person sees, on an emulated screen."""

from __future__ import annotations

import re

import pytest
from any_events import any_events
from hypothesis import given
from hypothesis import strategies as st
from recorded_builds import recorded, replay
from terminal import Terminal

from buildkit_session.cli.frame import Frame
from buildkit_session.cli.palette import Palette
from buildkit_session.cli.tty import TtyDisplay
from buildkit_session.engine.events import (
    EngineText,
    ImageId,
    ProgressEvent,
    ProgressGroup,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from buildkit_session.source import Position, SourceFile, SourceRange

S = 1_000_000_000  # nanoseconds in a second


def started(name: str, at: int = S) -> Vertex:
    return Vertex(name, f"step {name}", started=at)


def completed(name: str, at: int = 2 * S, *, since: int = S, cached: bool = False, error: str = "") -> Vertex:
    return Vertex(name, f"step {name}", (), cached, since, at, error)


def printed(name: str, data: bytes, at: int = S) -> VertexLog:
    return VertexLog(name, at, 1, data)


def row(text: str, time: str, width: int = 60) -> str:
    """A line of the display."""
    return f"{text}{time.rjust(width - 1 - len(text))}"


class Screen:
    """A display and the terminal that it is shown on."""

    def __init__(self, width: int = 60, height: int = 20, **options: object) -> None:
        self.display = TtyDisplay(**options)  # type: ignore[arg-type]
        self.terminal = Terminal(width, height)
        self.terminal.write(self.display.start())

    def after(self, *events: ProgressEvent, now: float = 0) -> list[str]:
        """What is on the screen after the events and a repaint."""
        for event in events:
            self.display.handle(event)
        self.display.resize(self.terminal.width, self.terminal.height)
        return self.terminal.write(self.display.refresh(now)).lines

    def at_the_end(self, *events: ProgressEvent) -> list[str]:
        """All that was written and remains, also what has left the screen."""
        for event in events:
            self.display.handle(event)
        self.display.resize(self.terminal.width, self.terminal.height)
        self.terminal.write(self.display.finish(None))
        return [*self.terminal.scrolled, *self.terminal.lines]


class TestHeading:
    def test_it_says_how_long_and_how_many(self) -> None:
        screen = Screen()
        assert screen.after(Vertex("b", "step b"), started("a"), now=7)[0] == row("[+] Building 0.0s (0/2)", "docker")
        assert screen.after(completed("a"), now=9.5)[0] == row("[+] Building 2.5s (1/2)", "docker")

    def test_the_daemons_clock_does_not_matter(self) -> None:
        ahead = 10**6 * S
        screen = Screen()
        screen.after(started("a", ahead), now=7)
        assert screen.after(now=8) == [row("[+] Building 1.0s (0/1)", "docker"), row(" => step a", "1.0s")]

    def test_the_builder_is_named(self) -> None:
        assert Screen(builder="ci", driver="remote").after()[0] == row("[+] Building 0.0s (0/0)", "remote:ci")

    def test_the_end_of_all_steps_is_named(self) -> None:
        assert Screen().at_the_end(completed("a"))[0] == row("[+] Building 1.0s (1/1) FINISHED", "docker")

    def test_steps_that_were_left_out_are_not_finished(self) -> None:
        assert Screen().at_the_end(completed("a"), Vertex("b", "step b"))[0] == row("[+] Building 1.0s (1/2)", "docker")

    def test_a_build_that_never_began_leaves_nothing(self) -> None:
        assert Screen().at_the_end() == []


class TestSteps:
    def test_lines_are_replaced_not_added(self) -> None:
        screen = Screen()
        screen.after(started("a"))
        assert screen.after(completed("a"), now=1)[1:] == [row(" => step a", "1.0s")]
        assert screen.terminal.scrolled == []

    def test_a_step_that_never_started_is_hidden(self) -> None:
        assert Screen().after(started("a"), Vertex("b", "step b"))[1:] == [row(" => step a", "0.0s")]

    @pytest.mark.parametrize(
        ("end", "words", "colour"),
        [
            (completed("a"), "step a", "\x1b[34m"),
            (completed("a", cached=True), "CACHED step a", "\x1b[34m"),
            (completed("a", error="exit code: 3"), "ERROR step a", "\x1b[31m"),
            (completed("a", error="failed: context canceled"), "CANCELED step a", "\x1b[33m"),
        ],
    )
    def test_the_outcome_is_named_and_coloured(self, end: Vertex, words: str, colour: str) -> None:
        screen = Screen()
        assert screen.after(started("a"), end)[1] == row(f" => {words}", "1.0s")
        assert screen.terminal.colours == [colour, "\x1b[0m"]

    def test_a_step_that_runs_has_the_colour_of_the_terminal(self) -> None:
        screen = Screen()
        screen.after(started("a"))
        assert screen.terminal.colours == []

    def test_without_colours_nothing_is_coloured(self) -> None:
        screen = Screen(palette=Palette("", "", "", ""))
        warning = VertexWarning("a", 1, "careful")
        screen.after(started("a"), started("b"), warning, completed("a"), completed("b", error="no"))
        screen.at_the_end()
        assert screen.terminal.colours == []

    def test_runs_that_overlap_count_once(self) -> None:
        shown = Screen().after(completed("a", 3 * S), completed("a", 4 * S, since=2 * S))
        assert shown[1] == row(" => step a", "3.0s")

    def test_times_too_short_to_matter_are_zero(self) -> None:
        assert Screen().after(completed("a", S + S // 21))[1] == row(" => step a", "0.0s")

    def test_progress_inside_a_step_has_a_line_of_its_own(self) -> None:
        status = VertexStatus("extracting", "a", "", 1500, 3000, timestamp=2 * S, started=S)
        screen = Screen()
        assert screen.after(started("a"), status)[2] == row(" => => extracting 1.50kB / 3.00kB", "1.0s")
        hidden = VertexStatus("waiting", "a", "", 0, 0)
        assert len(screen.after(hidden)) == 3

    def test_a_warning_stands_with_its_step(self) -> None:
        warning = VertexWarning("a", 1, "Rule: text")
        screen = Screen()
        assert screen.after(started("a"), warning, VertexWarning("b", 1, "Rule: text"), started("b"))[1:] == [
            row(" => step a", "0.0s"),
            row(" => WARN: Rule: text", "0.0s"),
            row(" => step b", "0.0s"),
        ]
        assert "\x1b[33m" in screen.terminal.colours

    def test_the_cursor_can_be_seen_between_frames(self) -> None:
        screen = Screen()
        screen.after(started("a"))
        assert screen.terminal.cursor_shown


class TestSize:
    def test_on_a_low_terminal_the_last_lines_are_kept(self) -> None:
        screen = Screen(height=5)
        shown = screen.after(*[completed(name) for name in "abcde"])
        assert shown[1:] == [row(f" => step {name}", "1.0s") for name in "cde"]
        assert screen.terminal.scrolled == []

    def test_a_step_that_runs_is_rather_kept_than_one_that_is_over(self) -> None:
        shown = Screen(height=5).after(started("a"), *[completed(name) for name in "bcde"], now=1)
        assert [line[:10] for line in shown[1:]] == [" => step a", " => step d", " => step e"]

    def test_the_last_frame_has_them_all(self) -> None:
        screen = Screen(height=5)
        screen.after(*[completed(name) for name in "abcde"])
        assert [line[:10] for line in screen.at_the_end()[1:]] == [f" => step {name}" for name in "abcde"]

    def test_long_names_are_cut_before_the_time(self) -> None:
        shown = Screen(width=30).after(Vertex("a", "x" * 50, started=S))
        assert shown[1] == f" => {'x' * 19}  0.0s"

    def test_wide_characters_count_twice(self) -> None:
        wide = "\u6f22"
        shown = Screen(width=30).after(Vertex("a", wide * 50, started=S))
        assert shown[1] == f" => {wide * 9}" + "   0.0s"

    def test_the_amount_is_left_out_where_there_is_no_room(self) -> None:
        status = VertexStatus("get", "a", "", 5, 9, timestamp=S, started=S)
        assert Screen(width=32).after(started("a"), status)[2] == row(" => => get 5B / 9B", "0.0s", 32)
        assert Screen(width=31).after(started("a"), status)[2] == row(" => => get", "0.0s", 31)

    def test_a_tiny_terminal_shows_no_steps(self) -> None:
        screen = Screen(width=18, height=2)
        assert screen.after(started("a")) == ["[+] Building 0.0s"]
        assert screen.after(now=1) == ["[+] Building 1.0s"]

    def test_a_terminal_that_becomes_narrower_is_drawn_over(self) -> None:
        screen = Screen(width=60)
        screen.after(started("a"), started("b"))
        screen.terminal.resize(25, 20)
        assert screen.after(now=1) == [
            "[+] Building 1.0s (0/2)",
            row(" => step a", "1.0s", 25),
            row(" => step b", "1.0s", 25),
        ]
        assert screen.terminal.scrolled == []

    def test_a_terminal_without_a_size_is_taken_to_be_usual(self) -> None:
        display = TtyDisplay()
        display.resize(0, 0)
        assert Terminal(80, 24).write(display.refresh(0)).lines == [row("[+] Building 0.0s (0/0)", "docker", 80)]


class TestWindows:
    def test_a_step_that_runs_shows_its_last_lines(self) -> None:
        screen = Screen(height=20)
        lines = b"".join(b"line %d\n" % number for number in range(9))
        assert screen.after(started("a"), printed("a", lines))[2:] == [f" => => # line {n}" for n in range(3, 9)]
        assert screen.after(completed("a"))[1:] == [row(" => step a", "1.0s")]

    def test_their_height_can_be_chosen_within_the_terminal(self) -> None:
        lines = b"".join(b"%d\n" % number for number in range(50))
        for rows, height, count in ((10, 40, 10), (30, 24, 17), (2, 40, 6)):
            shown = Screen(height=height, log_lines=rows).after(started("a"), printed("a", lines))
            assert len(shown[2:]) == count

    def test_there_is_none_where_there_is_no_room(self) -> None:
        assert len(Screen(height=12).after(started("a"), printed("a", b"x\n"))) == 2
        assert len(Screen(height=13).after(started("a"), printed("a", b"x\n"))) == 3

    def test_who_printed_most_goes_first(self) -> None:
        screen = Screen(height=15)
        events: list[ProgressEvent] = [started("a"), started("b"), printed("a", b"x\n"), printed("b", b"y" * 30)]
        assert screen.after(*events)[1:] == [
            row(" => step a", "0.0s"),
            row(" => step b", "0.0s"),
            f" => => # {'y' * 30}",
        ]

    def test_who_was_shown_keeps_the_window_for_a_while(self) -> None:
        screen = Screen(height=15)
        screen.after(started("a"), started("b"), printed("b", b"y\n"))
        assert screen.after(printed("a", b"x" * 20))[-1] == " => => # y"
        assert screen.after(printed("a", b"\nz" * 500))[2] == " => => # z"


class TestGroups:
    LOAD = ProgressGroup("g", "load")

    def member(
        self, name: str, start: int | None, end: int | None = None, *, weak: bool = False, **rest: str
    ) -> Vertex:
        group = ProgressGroup("g", "load", weak=weak)
        return Vertex(name, name, (), started=start, completed=end, progress_group=group, **rest)  # type: ignore[arg-type]

    def test_members_are_one_step(self) -> None:
        screen = Screen()
        shown = screen.after(self.member("a", S, 2 * S), self.member("b", 2 * S), now=1)
        assert shown == [row("[+] Building 1.0s (0/1)", "docker"), row(" => load", "1.0s")]
        assert screen.after(self.member("b", 2 * S, 4 * S), now=3)[0].startswith("[+] Building 3.0s (1/1)")

    def test_output_of_a_member_is_that_of_the_group(self) -> None:
        assert Screen().after(self.member("a", S), printed("a", b"x\n"))[2] == " => => # x"

    def test_it_stays_hidden_while_only_weak_members_run(self) -> None:
        screen = Screen()
        assert screen.after(self.member("a", S, weak=True)) == [row("[+] Building 0.0s (0/0)", "docker")]
        assert screen.after(self.member("b", S), now=1)[1] == row(" => load", "1.0s")

    def test_the_first_error_of_a_member_is_its_error(self) -> None:
        shown = Screen().after(self.member("a", S, 2 * S, weak=True, error="no"))
        assert shown[1] == row(" => ERROR load", "1.0s")


class TestDaemonsText:
    @pytest.mark.parametrize(
        "text", ["\x1b[5A\x1b[2Jevil", "a\nb", "a\r\x9b2Jb", "\u202eevil", "a\tb", "\x1b]0;title\x07"]
    )
    def test_nothing_moves_the_cursor(self, text: str) -> None:
        """The emulator fails on sequences that are not the display's own; lines would be more than expected."""
        screen = Screen()
        events: list[ProgressEvent] = [
            Vertex("a", text, started=S),
            VertexStatus(text, "a", "", 0, 0, timestamp=S, started=S),
            VertexWarning("a", 1, text),
            printed("a", text.encode()),
        ]
        shown = screen.after(*events)
        assert shown[0] == row("[+] Building 0.0s (0/1)", "docker")
        assert [line[:4] for line in shown[1:]] == [" => "] * (len(shown) - 1)
        assert any(line.startswith(" => WARN: ") for line in shown)

    @given(st.lists(st.binary(max_size=30), max_size=4), st.text(max_size=20), st.integers(20, 60), st.integers(3, 20))
    def test_any_output_stays_inside(self, output: list[bytes], name: str, width: int, height: int) -> None:
        screen = Screen(width, height)
        events: list[ProgressEvent] = [Vertex("a", name, started=S), *[printed("a", data) for data in output]]
        shown = screen.after(*events)
        assert all(line.startswith((" => ", "[+] ")) for line in shown)
        assert screen.terminal.scrolled == []

    @given(any_events, st.integers(1, 60), st.integers(1, 20))
    def test_no_events_disturb_the_frames(self, events: list[ProgressEvent], width: int, height: int) -> None:
        screen = Screen(width, height)
        for now, event in enumerate(events):
            screen.after(event, now=now)
            assert len(screen.terminal.lines) <= max(height - 1, 1)
        assert screen.terminal.scrolled == [] or height == 1
        own = re.compile(r"\x1b\[(\?25[lh]|[0-9]*[AKJ]|[0-9;:]*m)")
        assert "\x1b" not in own.sub("", screen.display.finish(None))

    def test_the_reports_at_the_end_are_escaped_too(self) -> None:
        source = SourceFile("Dockerfile", b"FROM x\x1b[9A\n")
        warning = VertexWarning(
            "a", 1, "w\x1b[9A", ("d\x1b[9A",), "u", source, (SourceRange(Position(1), Position(1)),)
        )
        events: list[ProgressEvent] = [started("a"), printed("a", b"\x1b[9A\n"), warning, EngineText("\x1b[9Ax")]
        shown = Screen(width=200, explain_warnings=True).at_the_end(*events, completed("a", error="exit code: 1"))
        assert shown[3] == "\\x1b[9Ax"
        assert shown[4:8] == ["------", " > step a:", "0.000 \\x1b[9A", "------"]
        assert shown[9:15] == [
            " 1 warning found:",
            " - w\\x1b[9A",
            "d\\x1b[9A",
            "More info: u",
            "Dockerfile:1",
            "--------------------",
        ]


class TestEnd:
    def test_all_that_a_failed_step_printed_is_shown(self) -> None:
        lines = b"".join(b"%d\n" % number for number in range(30))
        screen = Screen()
        screen.after(started("a"), printed("a", lines))
        shown = screen.at_the_end(completed("a", error="exit code: 1"))
        assert shown[2:] == ["------", " > step a:", *(f"0.000 {n}" for n in range(30)), "------"]

    def test_warnings_are_listed(self) -> None:
        shown = Screen(width=80).at_the_end(completed("a"), VertexWarning("a", 1, "one"), VertexWarning("a", 1, "two"))
        assert shown[4:] == ["", " 2 warnings found (use --debug to expand):", " - one", " - two"]

    def test_the_id_is_no_progress(self) -> None:
        assert len(Screen().at_the_end(completed("a"), ImageId("sha256:1"))) == 2


@pytest.mark.parametrize(
    ("name", "heading"),
    [("parallel", "(9/9) FINISHED"), ("cached", "(9/9) FINISHED"), ("failing", "(5/5) FINISHED")],
)
def test_recorded_builds_end_as_upstream_shows_them(name: str, heading: str) -> None:
    display = TtyDisplay(builder="default")
    display.resize(200, 50)
    terminal = Terminal(200, 50).write(replay(display, name))
    steps = {event.digest: event.name for event in recorded(name) if isinstance(event, Vertex) and event.started}
    assert heading in terminal.lines[0]
    assert terminal.lines[0].endswith(" docker:default")
    assert sum(
        line.startswith(" => ") and " => => " not in line and "WARN" not in line for line in terminal.lines
    ) == len(steps)


def test_a_frame_erases_what_a_narrower_terminal_broke() -> None:
    """Otherwise the terminal would join the lines of the new frame when it becomes wider again."""
    frame = Frame()
    frame.draw([("x" * 50, 50)], columns=60, rows=10)
    assert "\x1b[2A\x1b[J" in frame.draw([("x", 1)], columns=25, rows=10)
    assert "\x1b[1Ax" in frame.draw([("x", 1)], columns=25, rows=10)
