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

Names and warnings of the daemon are kept to one line each: a line end inside one is shown as ``\n``. What a step prints
is not changed.

Source: moby/buildkit:util/progress/progressui/printer.go, display.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from buildkit_session.cli.display import Display, failure_block
from buildkit_session.cli.step import Status, Step
from buildkit_session.engine.events import EngineText, ImageId, Vertex, VertexLog, VertexStatus, VertexWarning

if TYPE_CHECKING:
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.errors import BuildError

__all__ = ["PlainDisplay"]

_SILENCE = 1.0  # seconds
_TURN = 5.0  # seconds
_HELD_PIECES = 1000  # lines or parts of lines


class PlainDisplay(Display):
    """``--progress=plain``; see the module."""

    def __init__(self, *, explain_warnings: bool = False) -> None:
        self._steps: dict[str, Step] = {}
        self._waiting: dict[str, Step] = {}  # steps with news, the one that waited longest first
        self._notes: dict[str, list[str]] = {}  # warnings not shown yet, by digest
        self._warnings: dict[tuple[str, tuple[str, ...], str], VertexWarning] = {}  # without the step: they repeat
        self._texts: list[str] = []
        self._explain_warnings = explain_warnings
        self._paper = _Paper()
        self._current: Step | None = None
        self._current_since = 0.0
        self._current_spoke = 0.0
        self._last_number = 0

    def start(self) -> str:
        """Show the first line."""
        self._paper.line("#0 building with buildkit-session using docker driver")
        return self._paper.take()

    def handle(self, event: ProgressEvent, /) -> None:
        """Take in one event."""
        match event:
            case Vertex():
                self._on_vertex(event)
            case VertexStatus():
                self._on_status(event)
            case VertexLog():
                step = self._step(event.vertex)
                step.log.add(event, step.age(event.timestamp))
                self._wait(step)
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
            self._paper.line(f"#0 {_one_line(text)}")
        for step in self._steps.values():
            if step.has_failed:
                self._paper.add(failure_block(_one_line(step.name), step.log.tail))
        self._summarize_warnings()
        return self._paper.take()

    def _on_vertex(self, vertex: Vertex) -> None:
        step = self._step(vertex.digest)
        if not step.update(vertex):
            return
        if step.is_completed:
            step.log.flush()
        self._wait(step)

    def _on_status(self, status: VertexStatus) -> None:
        step = self._step(status.vertex)
        known = step.statuses.setdefault(status.id, Status(status))
        known.latest = status
        if known.is_news or (step.is_settled and not step.outcome_shown):
            self._wait(step)

    def _on_warning(self, warning: VertexWarning) -> None:
        # The same warning comes once per platform and once per frontend that saw it; what it says identifies it.
        key = (warning.short, warning.detail, warning.url)
        if key not in self._warnings:
            self._warnings[key] = warning
            self._notes.setdefault(warning.vertex, []).append(warning.short)
            self._wait(self._step(warning.vertex))

    def _step(self, digest: str) -> Step:
        if digest not in self._steps:
            self._steps[digest] = Step(digest)
        return self._steps[digest]

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
                self._paper.line(f"#{step.number} {_one_line(status.take())}")
        for note in self._notes.pop(step.digest, ()):
            self._paper.line(f"#{step.number} WARN: {_one_line(note)}")
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
        self._paper.line(f"#{step.number} {_one_line(step.name)}")
        self._current = step
        self._current_since = now

    def _summarize_warnings(self) -> None:
        if not self._warnings:
            return
        count = len(self._warnings)
        hint = "" if self._explain_warnings else " (use --debug to expand)"
        self._paper.gap()
        self._paper.line(f" {count} warning{'s' if count > 1 else ''} found{hint}:")
        for warning in self._warnings.values():
            self._paper.line(f" - {_one_line(warning.short)}")
            if self._explain_warnings:
                self._explain(warning)

    def _explain(self, warning: VertexWarning) -> None:
        for detail in warning.detail:
            self._paper.line(detail)
        if warning.url:
            self._paper.line(f"More info: {_one_line(warning.url)}")
        self._paper.gap()


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


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
