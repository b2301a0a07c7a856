r"""Plain progress: lines that are only ever appended, for logs and pipes.

A step gets a number when it is first shown. One step at a time is *current* and its news appear at once; news of others
wait until one of these holds:

- they completed: they are shown whole, in the order of completion;
- nothing is current: the one that waited longest becomes current;
- the current one has been silent for one second, or has been current for five: likewise;
- they printed a thousand lines: they are shown, so that memory stays bounded.

Upstream chooses by event rates instead; the words on the lines are the same:

.. code-block:: text

    #0 building with buildkit-session using docker driver

    #1 [internal] load build definition from Dockerfile
    #1 transferring dockerfile: 268B done
    #1 DONE 0.0s

    #2 [2/3] RUN make
    #2 0.115 gcc -c main.c
    #2 ...

Steps of a progress group are one step. Names and warnings of the daemon are kept to one line each: a line end inside
one is shown as ``\n``. What a step prints is not changed.

Source: moby/buildkit:util/progress/progressui/printer.go, display.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from buildkit_session.cli.display import Display, failure_block, one_line
from buildkit_session.cli.steps import Steps
from buildkit_session.cli.warned import Warnings
from buildkit_session.engine.events import EngineText, ImageId, Vertex, VertexLog, VertexStatus, VertexWarning

if TYPE_CHECKING:
    from buildkit_session.cli.step import Step
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.errors import BuildError

__all__ = ["PlainDisplay"]

_SILENCE = 1.0  # seconds
_TURN = 5.0  # seconds
_HELD_PIECES = 1000  # lines or parts of lines
_TAIL_LINES = 10  # of a failed step; they were all shown before


class PlainDisplay(Display):
    """``--progress=plain``; see the module.

    Args:
        builder: the name of the builder instance for the first line; without one the line names this program.
        driver: what drives it, such as ``docker`` or ``remote``.
        explain_warnings: whether warnings are shown with their details, link and place.
    """

    def __init__(self, *, builder: str = "", driver: str = "docker", explain_warnings: bool = False) -> None:
        self._instance = f'"{builder}" instance' if builder else "buildkit-session"
        self._driver = driver
        self._steps = Steps(tail_lines=_TAIL_LINES)
        self._waiting: dict[str, Step] = {}  # steps with news, the one that waited longest first
        self._notes: dict[str, list[str]] = {}  # warnings not shown yet, by digest
        self._warnings = Warnings()
        self._texts: list[str] = []
        self._explain_warnings = explain_warnings
        self._paper = _Paper()
        self._current: Step | None = None
        self._current_since = 0.0
        self._current_spoke = 0.0
        self._last_number = 0

    def start(self) -> str:
        """Show the first line."""
        self._paper.line(f"#0 building with {one_line(self._instance)} using {one_line(self._driver)} driver")
        return self._paper.take()

    def handle(self, event: ProgressEvent, /) -> None:
        """Take in one event."""
        match event:
            case Vertex():
                self._on_vertex(event)
            case VertexStatus():
                self._on_status(event)
            case VertexLog():
                self._wait(self._steps.add_log(event))
            case VertexWarning():
                self._on_warning(event)
            case EngineText():
                self._texts.append(event.text)
            case ImageId():
                pass  # it is the result, not progress
            case _:
                assert_never(event)

    def refresh(self, now: float, /) -> str:
        """Show the news whose turn it is."""
        self._show_settled(now)
        for step in [step for step in self._waiting.values() if len(step.log.pending) > _HELD_PIECES]:
            self._show(step, now)
        if self._current is not None and self._current.digest in self._waiting:
            self._show(self._current, now)
        if self._current is None or self._is_turn_over(now):
            self._show_next(now)
        return self._paper.take()

    def finish(self, _failure: BuildError | None, /) -> str:
        """Show everything that still waits, the logs of failed steps and a summary of the warnings."""
        for step in sorted(self._waiting.values(), key=lambda step: step is not self._current):
            self._show(step, self._current_since, final=True)
        self._paper.end_line()
        for text in self._texts:
            self._paper.line(f"#0 {one_line(text)}")
        for step in self._steps:
            if step.has_failed:
                self._paper.add(failure_block(one_line(step.name), step.log.tail))
        self._summarize_warnings()
        return self._paper.take()

    def _on_vertex(self, vertex: Vertex) -> None:
        step = self._steps.update(vertex)
        if step is not None:
            self._wait(step)

    def _on_status(self, event: VertexStatus) -> None:
        step, status = self._steps.add_status(event)
        if status.is_news or (step.is_settled and not step.outcome_shown):
            self._wait(step)

    def _on_warning(self, warning: VertexWarning) -> None:
        if self._warnings.add(warning):
            step = self._steps[warning.vertex]
            self._notes.setdefault(step.digest, []).append(warning.short)
            self._wait(step)

    def _wait(self, step: Step) -> None:
        if step.has_started:  # what comes before that is shown with the start
            self._waiting.setdefault(step.digest, step)

    def _is_turn_over(self, now: float) -> bool:
        return now - self._current_spoke >= _SILENCE or now - self._current_since >= _TURN

    def _show_settled(self, now: float) -> None:
        settled = [step for step in self._waiting.values() if step.is_settled]
        settled.sort(key=lambda step: (step is not self._current, step.snapshot.completed if step.snapshot else 0))
        for step in settled:
            self._show(step, now)

    def _show_next(self, now: float) -> None:
        for step in self._waiting.values():
            self._show(step, now)
            return

    def _show(self, step: Step, now: float, *, final: bool = False) -> None:
        """Show all news of ``step``, which becomes current, or past if it is over."""
        del self._waiting[step.digest]
        self._enter(step, now)
        self._current_spoke = now
        for status in step.statuses.values():
            if status.is_news:
                self._paper.line(f"#{step.number} {one_line(status.take())}")
        for note in self._notes.pop(step.digest, ()):
            self._paper.line(f"#{step.number} WARN: {one_line(note)}")
        for piece in step.log.take():
            self._paper.piece(f"#{step.number} {piece.stamp}", piece.text, ends_line=piece.ends_line)
        if step.is_settled or (final and step.is_completed):
            self._end(step)

    def _end(self, step: Step) -> None:
        self._paper.end_line()
        if not step.outcome_shown:  # news may still come after it
            self._paper.line(f"#{step.number} {step.outcome}")
            step.outcome_shown = True
        self._current = None

    def _enter(self, step: Step, now: float) -> None:
        if step is self._current:
            return
        if self._current is not None:
            self._paper.line(f"#{self._current.number} ...")
        if not step.number:
            self._last_number += 1
            step.number = self._last_number
        self._paper.gap()
        self._paper.line(f"#{step.number} {one_line(step.name)}")
        self._current = step
        self._current_since = now

    def _summarize_warnings(self) -> None:
        if self._warnings:
            self._paper.gap()
            explain = self._explain_warnings
            self._paper.add(f"{self._warnings.heading(explain=explain)}\n{self._warnings.listing(explain=explain)}")


class _Paper:
    """Text that grows by whole lines, and by pieces of one line that may stay open."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._is_empty = True
        self._line_is_open = False

    def take(self) -> str:
        text = "".join(self._parts)
        self._parts.clear()
        return text

    def add(self, text: str) -> None:
        self._parts.append(text)
        self._is_empty = False

    def line(self, text: str) -> None:
        self.end_line()
        self.add(f"{text}\n")

    def piece(self, prefix: str, text: str, *, ends_line: bool) -> None:
        """Continue the open line, or begin one with ``prefix``."""
        self.add(text if self._line_is_open else prefix + text)
        self._line_is_open = True
        if ends_line:
            self.end_line()

    def end_line(self) -> None:
        if self._line_is_open:
            self.add("\n")
            self._line_is_open = False

    def gap(self) -> None:
        """Leave an empty line, unless nothing is above it."""
        self.end_line()
        if not self._is_empty:
            self.add("\n")
