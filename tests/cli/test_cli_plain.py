"""Plain progress, from recorded builds and from events written by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from any_events import any_events
from hypothesis import given
from hypothesis import strategies as st
from recorded_builds import replay

from buildkit_session.cli.plain import PlainDisplay
from buildkit_session.cli.quiet import NoDisplay, QuietDisplay
from buildkit_session.cli.step import StepLog
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
from buildkit_session.errors import BuildError, FailedStep
from buildkit_session.source import Position, SourceFile, SourceRange

_RECORDINGS = Path(__file__).parent / "recordings"
S = 1_000_000_000  # nanoseconds in a second


def started(name: str, at: int = 0) -> Vertex:
    return Vertex(name, f"step {name}", started=at)


def completed(name: str, at: int = S, *, since: int = 0, cached: bool = False, error: str = "") -> Vertex:
    return Vertex(name, f"step {name}", (), cached, since, at, error)


def printed(name: str, data: bytes, at: int | None = S // 4) -> VertexLog:
    return VertexLog(name, at, 1, data)


def status(
    name: str, text: str = "transferring", *, amount: tuple[int, int] = (0, 0), at: int = 0, end: int | None = None
) -> VertexStatus:
    return VertexStatus(text, name, "", *amount, timestamp=at, started=0, completed=end)


class Screen:
    """A display with everything that it showed."""

    def __init__(self, *, explain_warnings: bool = False) -> None:
        self.display = PlainDisplay(explain_warnings=explain_warnings)

    def after(self, *events: ProgressEvent, now: float = 0) -> list[str]:
        """The lines that one repaint adds after the events."""
        for event in events:
            self.display.handle(event)
        return self.display.refresh(now).splitlines()

    def at_the_end(self, *events: ProgressEvent) -> list[str]:
        for event in events:
            self.display.handle(event)
        return self.display.finish(None).splitlines()


@pytest.mark.parametrize("name", ["parallel", "cached", "failing"])
def test_recorded_builds_look_like_upstreams_plain_progress(name: str) -> None:
    """The expected files were compared with what buildx printed: other numbers and turns, the same lines."""
    shown = replay(PlainDisplay(), name)
    assert shown.encode("utf-8", "surrogateescape") == (_RECORDINGS / f"{name}.plain").read_bytes()


def test_the_first_line_names_the_builder() -> None:
    assert PlainDisplay(builder="ci", driver="remote").start() == '#0 building with "ci" instance using remote driver\n'
    assert PlainDisplay().start() == "#0 building with buildkit-session using docker driver\n"


class TestSteps:
    def test_one_line_begins_and_one_ends_a_step(self) -> None:
        assert Screen().after(started("a"), completed("a")) == ["#1 step a", "#1 DONE 1.0s"]

    def test_a_step_that_never_started_is_hidden(self) -> None:
        screen = Screen()
        assert screen.after(Vertex("a", "step a")) == []
        assert screen.at_the_end() == []

    def test_a_snapshot_that_says_nothing_new_shows_nothing(self) -> None:
        screen = Screen()
        screen.after(completed("a"))
        assert screen.after(completed("a")) == []

    @pytest.mark.parametrize(
        ("end", "words"),
        [
            (completed("a", cached=True), "CACHED"),
            (completed("a", error="exit code: 3"), "ERROR: exit code: 3"),
            (completed("a", error="failed: context canceled"), "CANCELED"),
        ],
    )
    def test_the_outcome_is_named(self, end: Vertex, words: str) -> None:
        assert Screen().after(started("a"), end)[-1] == f"#1 {words}"

    def test_a_restarted_step_keeps_its_number_and_adds_its_times(self) -> None:
        screen = Screen()
        screen.after(completed("a", S))
        assert screen.after(started("a", 2 * S), completed("a", 4 * S, since=2 * S)) == [
            "",
            "#1 step a",
            "#1 DONE 3.0s",
        ]

    def test_runs_that_overlap_count_once(self) -> None:
        shown = Screen().after(completed("a", 2 * S), completed("a", 3 * S, since=S))
        assert shown[-1] == "#1 DONE 3.0s"

    def test_a_withdrawn_error_leaves_no_report(self) -> None:
        screen = Screen()
        screen.after(completed("a", error="died"))
        screen.after(started("a", 2 * S), completed("a", 3 * S, since=2 * S))
        assert "------" not in screen.at_the_end()

    def test_line_ends_in_names_cannot_forge_lines(self) -> None:
        shown = Screen().after(Vertex("a", "x\n#2 DONE\r", started=0))
        assert shown == ["#1 x\\n#2 DONE\\r"]


class TestTurns:
    def test_another_step_waits_while_the_current_one_talks(self) -> None:
        screen = Screen()
        screen.after(started("a"), now=0)
        assert screen.after(printed("a", b"x\n"), started("b"), now=0.5) == ["#1 0.250 x"]

    def test_silence_gives_the_turn_to_the_one_that_waits(self) -> None:
        screen = Screen()
        screen.after(started("a"), started("b"), now=0)
        assert screen.after(now=0.9) == []
        assert screen.after(now=1.1) == ["#1 ...", "", "#2 step b"]

    def test_a_turn_ends_even_if_the_current_step_talks_on(self) -> None:
        screen = Screen()
        screen.after(started("a"), started("b"), now=0)
        shown = [screen.after(printed("a", b"x\n"), now=second) for second in (1, 2, 3, 4, 5)]
        assert shown[:4] == [["#1 0.250 x"]] * 4
        assert shown[4] == ["#1 0.250 x", "#1 ...", "", "#2 step b"]

    def test_a_step_that_ends_elsewhere_is_shown_at_once(self) -> None:
        screen = Screen()
        screen.after(started("a"), now=0)
        assert screen.after(started("b"), printed("b", b"y\n"), completed("b"), now=0.1) == [
            "#1 ...",
            "",
            "#2 step b",
            "#2 0.250 y",
            "#2 DONE 1.0s",
        ]
        assert screen.after(printed("a", b"x\n"), now=0.2) == ["", "#1 step a", "#1 0.250 x"]

    def test_ends_are_shown_in_their_order_the_current_one_first(self) -> None:
        screen = Screen()
        screen.after(started("a"), now=0)
        shown = screen.after(completed("c", 3), completed("b", 2), completed("a", 4), now=0.1)
        assert [line for line in shown if "step" in line or "DONE" in line] == [
            "#1 DONE 0.0s",
            "#2 step b",
            "#2 DONE 0.0s",
            "#3 step c",
            "#3 DONE 0.0s",
        ]

    def test_a_step_that_holds_too_much_does_not_wait(self) -> None:
        screen = Screen()
        screen.after(started("a"), now=0)
        shown = screen.after(started("b"), printed("b", b"y\n" * 1001), now=0.1)
        assert shown.count("#2 0.250 y") == 1001


class TestOutputOfSteps:
    @pytest.mark.parametrize(
        ("age", "text"), [(0, "0.000"), (S // 8, "0.125"), (12_340_000_000, "12.34"), (123_400_000_000, "123.4")]
    )
    def test_the_time_counts_from_the_start(self, age: int, text: str) -> None:
        assert Screen().after(started("a", S), printed("a", b"x\n", S + age))[-1] == f"#1 {text} x"

    def test_it_counts_from_the_latest_start(self) -> None:
        assert Screen().after(started("a"), started("a", 2 * S), printed("a", b"x\n", 3 * S))[-1] == "#1 1.000 x"

    def test_without_a_timestamp_there_is_no_time(self) -> None:
        assert Screen().after(started("a"), printed("a", b"x\n", None))[-1] == "#1 x"

    def test_a_partial_line_is_shown_and_continued(self) -> None:
        screen = Screen()
        screen.after(started("a"))
        screen.display.handle(printed("a", b"one "))
        assert screen.display.refresh(0.1) == "#1 0.250 one "
        screen.display.handle(printed("a", b"line\nnext\n"))
        assert screen.display.refresh(0.2) == "line\n#1 0.250 next\n"

    def test_a_partial_line_ends_when_something_else_is_shown(self) -> None:
        screen = Screen()
        shown = screen.after(started("a"), printed("a", b"tail"), completed("a"))
        assert shown == ["#1 step a", "#1 0.250 tail", "#1 DONE 1.0s"]

    def test_a_partial_line_is_taken_up_with_its_prefix_after_a_switch(self) -> None:
        screen = Screen()
        screen.after(started("a"), printed("a", b"one"), now=0)
        assert screen.after(started("b"), completed("b"), now=0.1)[:2] == ["", "#1 ..."]
        assert screen.after(printed("a", b" line\n"), now=0.2) == ["", "#1 step a", "#1 0.250  line"]

    def test_output_after_the_end_does_not_end_the_step_twice(self) -> None:
        screen = Screen()
        screen.after(completed("a"))
        assert screen.after(printed("a", b"late\n")) == ["", "#1 step a", "#1 0.250 late"]

    @given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
    def test_bytes_pass_unchanged_however_they_are_cut(self, data: bytes, cuts: list[int]) -> None:
        log = StepLog()
        edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
        for begin, end in pairwise(edges):
            log.add(printed("a", data[begin:end]), None)
        log.flush()
        text = "".join(piece.text + ("\n" if piece.ends_line else "") for piece in log.take())
        assert text.encode("utf-8", "surrogateescape") == data

    def test_a_character_cut_in_two_is_whole_again(self) -> None:
        shown = Screen().after(started("a"), printed("a", b"\xe2\x82"), printed("a", b"\xac\n"))
        assert shown[-1] == "#1 0.250 \u20ac"


class TestStatuses:
    @pytest.mark.parametrize(
        ("event", "line"),
        [
            (status("a"), "#1 transferring"),
            (status("a", amount=(126, 0)), "#1 transferring 126B"),
            (status("a", amount=(999, 1000)), "#1 transferring 999B / 1.00kB"),
            (status("a", amount=(1_980_000, 0), at=S), "#1 transferring 1.98MB 1.0s"),
            (status("a", end=S // 1000), "#1 transferring done"),
            (status("a", amount=(2, 0), end=S // 50), "#1 transferring 2B 0.0s done"),
            (status("a", amount=(10**30, 0)), "#1 transferring 1000000.00YB"),
        ],
    )
    def test_amount_and_time_are_spelled_as_upstream_does(self, event: VertexStatus, line: str) -> None:
        assert Screen().after(started("a"), event)[-1] == line

    def test_small_progress_is_not_news(self) -> None:
        screen = Screen()
        screen.after(started("a"), status("a", amount=(0, 100)))
        assert screen.after(status("a", amount=(4, 100), at=S)) == []
        assert screen.after(status("a", amount=(5, 100), at=S)) == ["#1 transferring 5B / 100B 1.0s"]

    def test_after_five_seconds_it_is(self) -> None:
        screen = Screen()
        screen.after(started("a"), status("a", amount=(0, 100)))
        assert screen.after(status("a", amount=(1, 100), at=5 * S)) == ["#1 transferring 1B / 100B 5.0s"]

    def test_an_open_status_delays_the_end_of_the_step(self) -> None:
        screen = Screen()
        assert screen.after(started("a"), status("a"), completed("a"))[-1] == "#1 transferring"
        assert screen.after(status("a", end=S)) == ["#1 transferring 1.0s done", "#1 DONE 1.0s"]

    def test_at_the_end_it_delays_nothing(self) -> None:
        assert Screen().at_the_end(started("a"), status("a"), completed("a"))[-1] == "#1 DONE 1.0s"

    def test_a_status_that_did_not_start_is_hidden(self) -> None:
        assert Screen().after(started("a"), VertexStatus("x", "a", "", 0, 0)) == ["#1 step a"]


class TestWarnings:
    WARNING = VertexWarning("a", 1, "Rule: text (line 3)", ("why", "how"), "https://example.com/rule")

    def test_a_warning_is_shown_with_its_step_and_at_the_end(self) -> None:
        screen = Screen()
        assert screen.after(started("a"), self.WARNING)[-1] == "#1 WARN: Rule: text (line 3)"
        assert screen.at_the_end() == [
            "",
            " 1 warning found (use --debug to expand):",
            " - Rule: text (line 3)",
        ]

    def test_warnings_that_say_the_same_count_once(self) -> None:
        again = VertexWarning("b", 1, self.WARNING.short, self.WARNING.detail, self.WARNING.url)
        other = VertexWarning("b", 1, "Other")
        shown = Screen().at_the_end(started("a"), started("b"), self.WARNING, again, other)
        assert " 2 warnings found (use --debug to expand):" in shown
        assert sum("WARN:" in line for line in shown) == 2

    def test_debug_explains_them(self) -> None:
        shown = Screen(explain_warnings=True).at_the_end(started("a"), self.WARNING)
        assert shown[-6:] == [
            " 1 warning found:",
            " - Rule: text (line 3)",
            "why",
            "how",
            "More info: https://example.com/rule",
            "",
        ]

    def test_debug_shows_the_lines_they_are_about(self) -> None:
        source = SourceFile("Dockerfile", b"FROM scratch\nMAINTAINER me\nCOPY a /\nCOPY b /\nCOPY c /\n")
        place = SourceRange(Position(2), Position(2))
        warning = VertexWarning("a", 1, "Rule: text (line 2)", source=source, ranges=(place,))
        assert Screen(explain_warnings=True).at_the_end(started("a"), warning)[-10:] == [
            " 1 warning found:",
            " - Rule: text (line 2)",
            "Dockerfile:2",
            "--------------------",
            "   1 |     FROM scratch",
            "   2 | >>> MAINTAINER me",
            "   3 |     COPY a /",
            "   4 |     COPY b /",
            "--------------------",
            "",
        ]

    def test_the_same_words_about_another_place_are_another_warning(self) -> None:
        source = SourceFile("Dockerfile", b"a\nb\n")
        places = [SourceRange(Position(line), Position(line)) for line in (1, 2)]
        warnings = [VertexWarning("a", 1, "Rule", source=source, ranges=(place,)) for place in places]
        assert " 2 warnings found (use --debug to expand):" in Screen().at_the_end(started("a"), *warnings)


class TestGroups:
    def member(self, name: str, start: int | None, end: int | None = None, *, weak: bool = False) -> Vertex:
        return Vertex(
            name, f"step {name}", started=start, completed=end, progress_group=ProgressGroup("g", "load", weak=weak)
        )

    def test_members_are_one_step(self) -> None:
        screen = Screen()
        assert screen.after(self.member("a", 0), self.member("b", None)) == ["#1 load"]
        assert screen.after(self.member("b", S), printed("b", b"x\n", S), self.member("a", 0, 2 * S)) == ["#1 0.000 x"]
        assert screen.after(self.member("b", S, 3 * S)) == ["#1 DONE 3.0s"]

    def test_it_is_cached_if_all_are(self) -> None:
        group = ProgressGroup("g", "load")
        cached = [Vertex(name, name, (), True, 0, 0, "", group) for name in "ab"]
        assert Screen().after(*cached) == ["#1 load", "#1 CACHED"]
        assert Screen().after(*cached, self.member("c", 0, 0))[-1] == "#1 DONE 0.0s"

    def test_its_error_is_that_of_a_member(self) -> None:
        failed = Vertex("a", "a", (), False, 0, S, "no", ProgressGroup("g", "load"))
        screen = Screen()
        assert screen.after(failed, self.member("b", 0, S)) == ["#1 load", "#1 ERROR: no"]
        assert screen.at_the_end() == ["------", " > load:", "------"]

    def test_weak_members_alone_are_hidden(self) -> None:
        screen = Screen()
        assert screen.after(self.member("a", 0, S, weak=True)) == []
        assert screen.after(self.member("b", S)) == ["#1 load"]

    def test_a_weak_member_that_fails_is_not(self) -> None:
        failed = Vertex("a", "a", (), False, 0, S, "no", ProgressGroup("g", "load", weak=True))
        assert Screen().after(failed) == ["#1 load", "#1 ERROR: no"]

    def test_a_group_is_not_mistaken_for_a_step(self) -> None:
        group = ProgressGroup("b", "load")
        shown = Screen().after(Vertex("a", "a", started=0, completed=S, progress_group=group), completed("b"))
        assert shown == ["#1 load", "#1 DONE 1.0s", "", "#2 step b", "#2 DONE 1.0s"]


class TestEnd:
    def test_the_last_lines_of_a_failed_step_are_repeated(self) -> None:
        screen = Screen()
        lines = b"".join(b"%d\n" % number for number in range(12))
        screen.after(started("a"), printed("a", lines), completed("a", error="exit code: 1"))
        assert screen.at_the_end() == ["------", " > step a:", *(f"0.250 {n}" for n in range(2, 12)), "------"]

    def test_a_cancelled_step_has_no_report(self) -> None:
        screen = Screen()
        screen.after(completed("a", error="context canceled"))
        assert screen.at_the_end() == []

    def test_an_endless_line_is_cut_in_the_report(self) -> None:
        shown = Screen().at_the_end(
            started("a"), *[printed("a", b"x" * 1000)] * 10, completed("a", error="exit code: 1")
        )
        assert max(map(len, shown[shown.index("------") :])) == 4096

    def test_news_of_every_step_are_shown(self) -> None:
        shown = Screen().at_the_end(started("a"), started("b"), printed("b", b"y\n"), printed("a", b"x\n"))
        assert shown == ["#1 step a", "#1 0.250 x", "#1 ...", "", "#2 step b", "#2 0.250 y"]

    def test_the_engines_own_words_are_shown_and_the_id_is_not(self) -> None:
        shown = Screen().at_the_end(ImageId("sha256:1"), EngineText("Successfully tagged x"))
        assert shown == ["#0 Successfully tagged x"]


@given(any_events)
def test_no_events_stop_the_display(events: list[ProgressEvent]) -> None:
    screen = Screen(explain_warnings=True)
    for now, event in enumerate(events):
        screen.after(event, now=now)
    screen.at_the_end()


class TestWithoutProgress:
    FAILURE = BuildError("no", step=FailedStep("step a", "a", "exit code: 1", ("one", "two")))

    @pytest.mark.parametrize("name", ["parallel", "failing"])
    def test_quiet_and_none_show_no_progress(self, name: str) -> None:
        assert replay(QuietDisplay(), name) == ""
        assert replay(NoDisplay(), name) == ""

    def test_quiet_shows_the_log_of_the_failed_step(self) -> None:
        assert QuietDisplay().finish(self.FAILURE) == "------\n > step a:\none\ntwo\n------\n"
        assert QuietDisplay().finish(BuildError("no")) == ""

    def test_none_does_not(self) -> None:
        assert NoDisplay().finish(self.FAILURE) == ""
