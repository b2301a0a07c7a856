"""Progress on a terminal: the steps in a frame that is redrawn in place.

.. code-block:: text

    [+] Building 1.2s (3/5)                                    docker:default
     => [internal] load build definition from Dockerfile                 0.0s
     => => transferring dockerfile: 268B                                 0.0s
     => CACHED [1/2] COPY busybox /bin/busybox                           0.0s
     => [2/2] RUN make                                                   1.1s
     => => # gcc -c main.c

A step that runs and prints gets a window with its last lines, while the terminal has room; who printed most, and was
shown most, goes first. When there are more lines than rows, the last ones are kept and of those before them the
ones that are not over. The last frame has every line, however high it is.

Times are the daemon's. Its clock need not be ours: they are compared once, when the first step has started.

What came from the daemon is shown escaped: no name and no output moves the cursor.

Source: moby/buildkit:util/progress/progressui/display.go, init.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, assert_never

from buildkit_session.cli import cells, quantities
from buildkit_session.cli.console import escape_controls
from buildkit_session.cli.display import Display, failure_block, one_line
from buildkit_session.cli.frame import Frame
from buildkit_session.cli.log_window import LogWindow
from buildkit_session.cli.palette import FAINT, RESET, Palette
from buildkit_session.cli.steps import Steps
from buildkit_session.cli.warned import Warnings
from buildkit_session.engine.events import EngineText, ImageId, Vertex, VertexLog, VertexStatus, VertexWarning
from buildkit_session.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildkit_session.cli.frame import Line
    from buildkit_session.cli.step import Status, Step
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.errors import BuildError

__all__ = ["LOG_LINES", "TtyDisplay"]

LOG_LINES: Final = 6
"""The height of a window, and the least it can be set to."""

_SECOND: Final = 1_000_000_000  # nanoseconds
_SIZE: Final = (80, 24)  # until it is known
_PREFIX: Final = " => "
_LOG_PREFIX: Final = " => => # "
_SHORTEST_NAME: Final = 12  # columns; a terminal that has fewer left shows no steps
_SHORTEST_BEFORE_AMOUNT: Final = 20  # columns for name and amount together; with fewer the amount is left out
_WINDOW_MARGIN: Final = 3  # rows that stay free of windows for each of them
_SHOWN_WEIGHT: Final = 50  # characters that having been shown once counts for in the choice of windows
# Unlike plain progress the display did not show them before; this bounds what one failed step can occupy.
_TAIL_LINES: Final = 1000


@dataclass(slots=True)
class _Row:
    """One line of the frame, and what the window below it shows.

    Attributes:
        spent: nanoseconds.
        colour: written before the line once it is over.
    """

    name: str
    spent: int
    is_over: bool
    colour: str
    amount: str = ""
    step: Step | None = None
    log: Sequence[str] = ()


class TtyDisplay(Display):
    """``--progress=tty``; see the module.

    Args:
        builder: the name of the builder instance, shown on the right of the first line.
        driver: what drives it.
        palette: the colours.
        log_lines: how high the window of a step may become, in rows; below :data:`LOG_LINES` it counts as that.
        explain_warnings: whether warnings are shown with their details, link and place.
    """

    drives_terminal: ClassVar[bool] = True

    def __init__(
        self,
        *,
        builder: str = "",
        driver: str = "docker",
        palette: Palette | None = None,
        log_lines: int = LOG_LINES,
        explain_warnings: bool = False,
    ) -> None:
        self._instance = printable(f"{driver}:{builder}" if builder else driver)
        self._palette = palette or Palette()
        self._log_lines = log_lines
        self._explain_warnings = explain_warnings
        self._columns, self._rows = _SIZE
        self._frame = Frame()
        self._steps = Steps(tail_lines=_TAIL_LINES)
        self._warnings = Warnings()
        self._notes: dict[str, list[str]] = {}  # warnings by digest of the step
        self._windows: dict[str, LogWindow] = {}  # of steps that run, by digest
        self._times_shown: dict[str, int] = {}  # of those windows
        self._texts: list[str] = []
        self._began: int | None = None  # when the first step started; this and what follows are nanoseconds
        self._latest = 0  # the latest time that the daemon named
        self._offset: int | None = None  # our clock minus the daemon's
        self._now = 0  # of the last frame, on the daemon's clock

    def start(self) -> str:
        """Show nothing yet: the first frame does."""
        return ""

    def resize(self, width: int, height: int, /) -> None:
        """Draw the next frame for a terminal of this size; one that does not know its own is taken to be usual."""
        self._columns, self._rows = (width, height) if width > 0 and height > 0 else _SIZE

    def handle(self, event: ProgressEvent, /) -> None:
        """Take in one event."""
        match event:
            case Vertex():
                self._on_vertex(event)
            case VertexStatus():
                self._steps.add_status(event)
                self._saw(event.timestamp)
            case VertexLog():
                self._on_log(event)
            case VertexWarning():
                if self._warnings.add(event):
                    self._notes.setdefault(self._steps[event.vertex].digest, []).append(event.short)
            case EngineText():
                self._texts.append(event.text)
            case ImageId():
                pass  # it is the result, not progress
            case _:
                assert_never(event)

    def refresh(self, now: float, /) -> str:
        """Draw a frame that fits the terminal."""
        ours = int(now * _SECOND)
        if self._offset is None and self._began is not None:
            self._offset = ours - self._latest
        self._now = ours - self._offset if self._offset is not None else 0
        rows = list(self._build_rows())
        hidden = self._open_windows(rows)
        return self._draw(_fit(rows, self._rows - 2 - hidden))

    def finish(self, _failure: BuildError | None, /) -> str:
        """Draw the last frame, then the logs of failed steps and the warnings."""
        if self._began is None:
            return ""
        self._now = max(self._now, self._latest)
        parts = [self._draw(list(self._build_rows()), final=True)]
        parts += [f"{printable(text.strip())}\n" for text in self._texts]
        for step in self._steps:
            if step.has_failed:
                parts.append(escape_controls(failure_block(one_line(step.name), step.log.tail)))
        parts += self._list_warnings()
        return "".join(parts)

    def _on_vertex(self, vertex: Vertex) -> None:
        if self._began is None:
            self._began = vertex.started
        self._saw(vertex.started)
        self._saw(vertex.completed)
        step = self._steps.update(vertex)
        if step is not None and step.is_completed:
            self._windows.pop(step.digest, None)
            self._times_shown.pop(step.digest, None)

    def _on_log(self, log: VertexLog) -> None:
        self._saw(log.timestamp)
        step = self._steps.add_log(log)
        window = self._windows.setdefault(step.digest, LogWindow())
        window.write("".join(f"{piece.text}\n" if piece.ends_line else piece.text for piece in step.log.take()))

    def _saw(self, time: int | None) -> None:
        self._latest = max(self._latest, time or 0)

    def _build_rows(self) -> Iterator[_Row]:
        for step in self._steps:
            yield self._step_row(step)
            for status in step.statuses.values():
                if status.latest.started is not None:
                    yield self._status_row(status)
            for note in self._notes.get(step.digest, ()):
                yield _Row(f"WARN: {printable(note)}", step.run_time_until(self._now), True, self._palette.warning)

    def _step_row(self, step: Step) -> _Row:
        name, colour = printable(step.name.replace("\t", " ")), self._palette.run
        if step.has_failed:
            name, colour = f"ERROR {name}", self._palette.error
        elif step.error:
            name, colour = f"CANCELED {name}", self._palette.cancel
        elif step.snapshot and step.snapshot.cached:
            name = f"CACHED {name}"
        return _Row(name, step.run_time_until(self._now), step.is_completed, colour, step=step)

    def _status_row(self, status: Status) -> _Row:
        latest = status.latest
        end = self._now if latest.completed is None else latest.completed
        spent = end - (latest.started or 0)
        name = f"=> {printable(latest.id)}"
        return _Row(name, spent, status.is_completed, self._palette.run, amount=status.amount)

    def _open_windows(self, rows: Sequence[_Row]) -> int:
        """Give windows to steps that run, as many as there is room for; return how many lines they have."""
        height = max(LOG_LINES, min(self._log_lines, self._rows - LOG_LINES - 1))
        free = self._rows - 2 - sum(not row.is_over for row in rows)
        shown = 0
        for row in sorted(filter(self._has_window, rows), key=self._claim, reverse=True):
            if free <= height + _WINDOW_MARGIN or row.step is None:
                break
            digest = row.step.digest
            row.log = self._windows[digest].show(self._columns - len(_LOG_PREFIX) - 1, height)
            self._times_shown[digest] = self._times_shown.get(digest, 0) + 1
            shown += len(row.log)
            free -= height + _WINDOW_MARGIN
        return shown

    def _has_window(self, row: _Row) -> bool:
        return row.step is not None and not row.is_over and row.step.digest in self._windows

    def _claim(self, row: _Row) -> int:
        digest = row.step.digest if row.step else ""
        return self._windows[digest].printed + _SHOWN_WEIGHT * self._times_shown.get(digest, 0)

    def _draw(self, rows: Sequence[_Row], *, final: bool = False) -> str:
        lines = [self._heading(final=final), *(line for row in rows for line in self._lines_of(row))]
        return self._frame.draw(lines, columns=self._columns, rows=self._rows)

    def _heading(self, *, final: bool) -> Line:
        steps = self._steps.known
        done = sum(step.is_completed for step in steps)
        spent = 0 if self._began is None else max(self._now - self._began, 0)
        end = " FINISHED" if final and done == len(steps) else ""
        left = f"[+] Building {quantities.seconds(spent)} ({done}/{len(steps)}){end}"
        return self._justified(left, self._instance)

    def _lines_of(self, row: _Row) -> Iterator[Line]:
        spent = quantities.seconds(row.spent if row.spent >= _SECOND // 20 else 0)
        room = self._columns - len(_PREFIX) - len(spent) - 3  # two before the time, and the last column
        amount = f" {row.amount}" if row.amount and room > _SHORTEST_BEFORE_AMOUNT else ""
        room -= len(amount)
        if room < _SHORTEST_NAME:
            return
        line, width = self._justified(f"{_PREFIX}{cells.cut(row.name, room)}{amount}", spent)
        yield (f"{row.colour}{line}{RESET}" if row.is_over and row.colour else line), width
        for text in row.log:
            yield f"{FAINT}{_LOG_PREFIX}{text}{RESET}", len(_LOG_PREFIX) + cells.width(text)

    def _justified(self, left: str, right: str) -> Line:
        """Put ``left`` and ``right`` at the ends of a line, and cut what does not fit before the last column."""
        gap = max(self._columns - 1 - cells.width(left) - cells.width(right), 1)
        line = cells.cut(f"{left}{' ' * gap}{right}", self._columns - 1)
        return line, cells.width(line)

    def _list_warnings(self) -> Iterator[str]:
        if not self._warnings:
            return
        heading = self._warnings.heading(explain=self._explain_warnings)
        yield f"\n{self._palette.warning}{heading}{RESET if self._palette.warning else ''}\n"
        yield escape_controls(self._warnings.listing(explain=self._explain_warnings))


def _fit(rows: Sequence[_Row], limit: int) -> Sequence[_Row]:
    """Keep the last ``limit`` rows, but rather one that is not over than a later one that is."""
    if len(rows) <= limit:
        return rows
    if limit <= 0:
        return []
    running = [row for row in rows[:-limit] if not row.is_over]
    kept = []
    spare = len(running)
    for row in rows[-limit:]:
        if spare and row.is_over:
            spare -= 1
        else:
            kept.append(row)
    free = limit - len(kept)
    return [*(running[-free:] if free else []), *kept]
