"""One step of a build as a display needs it: its snapshots, runs, statuses and output, and what of them is news.

Source: moby/buildkit:util/progress/progressui/display.go (vertex, term), and the semantics of
moby/buildkit:api/services/control/control.proto (Vertex, VertexStatus, VertexLog).
"""

from __future__ import annotations

import codecs
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from buildkit_session.cli import quantities
from buildkit_session.engine.events import Vertex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.engine.events import ProgressGroup, VertexLog, VertexStatus

__all__ = ["GroupStep", "LogPiece", "Status", "Step", "StepLog"]

_TAIL_LINES = 10
# A program may print without ever ending a line; of such a line this much is kept for the report of a failure.
_TAIL_LINE_LENGTH = 4096
_CANCELED = "context canceled"


class Step:
    """A vertex of the build, by its digest.

    A step may run several times: every distinct ``started`` is a run, and a later snapshot with the same ``started``
    replaces what was known of that run.
    """

    def __init__(self, digest: str, *, tail_lines: int = _TAIL_LINES) -> None:
        self.digest = digest
        self.number = 0  # given when it is first shown; 0 until then
        self.snapshot: Vertex | None = None
        self.statuses: dict[str, Status] = {}
        self.log = StepLog(tail_lines)
        self.outcome_shown = False
        self._runs: dict[tuple[str, int], int | None] = {}  # vertex and started to completed, nanoseconds

    @property
    def name(self) -> str:
        """As the daemon calls it now; two builds that share a step may rename it."""
        return self.snapshot.name if self.snapshot else self.digest

    @property
    def has_started(self) -> bool:
        """Whether it ever ran. A step that never did is not shown."""
        return bool(self._runs)

    @property
    def is_completed(self) -> bool:
        """Whether its last run is over."""
        return self.snapshot is not None and self.snapshot.completed is not None

    @property
    def is_settled(self) -> bool:
        """Whether its last run is over and nothing more about it is expected."""
        failed = bool(self.snapshot and self.snapshot.error)
        return self.is_completed and (failed or all(status.is_completed for status in self.statuses.values()))

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error of its own; being cancelled is none."""
        return self.is_completed and self.error != "" and not self.error.endswith(_CANCELED)

    @property
    def error(self) -> str:
        """The daemon's text of the failure, or empty."""
        return self.snapshot.error if self.snapshot else ""

    @property
    def outcome(self) -> str:
        """How the last run ended, in the words of plain progress."""
        if self.error.endswith(_CANCELED):
            return "CANCELED"
        if self.error:
            return f"ERROR: {self.error}"
        if self.snapshot and self.snapshot.cached:
            return "CACHED"
        return f"DONE {quantities.seconds(self.run_time)}"

    @property
    def run_time(self) -> int:
        """Nanoseconds that completed runs took, time that two of them share counted once."""
        return _covered((started, end) for (_, started), end in self._runs.items() if end is not None)

    def run_time_until(self, now: int) -> int:
        """Likewise, with the runs that are not over at ``now``, nanoseconds on the daemon's clock."""
        return _covered((started, now if end is None else end) for (_, started), end in self._runs.items())

    def update(self, vertex: Vertex) -> bool:
        """Take in a snapshot; return whether it says anything new."""
        if vertex == self.snapshot:
            return False
        self.snapshot = vertex
        self._note_run(vertex)
        return True

    def age(self, timestamp: int | None) -> int | None:
        """Nanoseconds between the most recent start and ``timestamp``, or ``None`` if either is unknown."""
        if timestamp is None or not self._runs:
            return None
        return timestamp - max(started for _, started in self._runs)

    def _note_run(self, vertex: Vertex) -> None:
        if vertex.started is not None:
            self._runs[vertex.digest, vertex.started] = vertex.completed
        self.outcome_shown = False


class GroupStep(Step):
    """Vertices that are shown as one step.

    It is cached if all of them are, its error is the first of theirs, its runs are those of all. It stays hidden until
    one that is not weak has started, or one has failed: then it must be seen.

    Source: moby/buildkit:util/progress/progressui/display.go (vertexGroup.refresh).
    """

    def __init__(self, group: ProgressGroup, *, tail_lines: int = _TAIL_LINES) -> None:
        # The identifier is the frontend's choice; it must not be taken for the digest of a vertex.
        super().__init__(f"group {group.id}", tail_lines=tail_lines)
        self._name = group.name
        self._members: dict[str, Vertex] = {}
        self._revealed = False

    @property
    def has_started(self) -> bool:
        """Whether a member ever ran that makes the group visible."""
        return self._revealed and super().has_started

    def update(self, vertex: Vertex) -> bool:
        """Take in a snapshot of a member; return whether it says anything new."""
        if vertex == self._members.get(vertex.digest):
            return False
        self._members[vertex.digest] = vertex
        self._note_run(vertex)
        weak = vertex.progress_group is not None and vertex.progress_group.weak
        self._revealed |= vertex.error != "" or (vertex.started is not None and not weak)
        self.snapshot = self._summary()
        return True

    def _summary(self) -> Vertex:
        members = self._members.values()
        ran = [member for member in members if member.started is not None]
        ends = [member.completed for member in ran if member.completed is not None]
        return Vertex(
            self.digest,
            self._name,
            cached=all(member.cached for member in members),
            started=min((member.started for member in ran if member.started is not None), default=None),
            completed=max(ends) if ends and len(ends) == len(ran) else None,
            error=next((member.error for member in members if member.error), ""),
        )


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """Add up the lengths of ``spans``, what two of them share counted once."""
    total = 0
    end = 0
    for start, stop in sorted(spans):
        total += max(stop - max(start, end), 0)
        end = max(end, stop)
    return total


class Status:
    """Progress inside a step, and how much of it was shown."""

    # An unfinished status is shown again after this share of its total, or this time on the daemon's clock.
    _SHARE = 0.05
    _INTERVAL = 5_000_000_000

    def __init__(self, latest: VertexStatus) -> None:
        self.latest = latest
        self._shown: VertexStatus | None = None

    @property
    def is_completed(self) -> bool:
        """Whether it is over."""
        return self.latest.completed is not None

    @property
    def is_news(self) -> bool:
        """Whether it differs enough from what was shown. A status without a start is never shown."""
        latest, shown = self.latest, self._shown
        if latest.started is None:
            return False
        if shown is None or (shown.completed is None and latest.completed is not None):
            return True
        return latest.completed is None and (self._grew(shown, latest) or self._aged(shown, latest))

    @property
    def amount(self) -> str:
        """How much was done, and of how much if that is known; empty if neither is."""
        latest = self.latest
        if latest.total:
            return f"{quantities.size(latest.current)} / {quantities.size(latest.total)}"
        return quantities.size(latest.current) if latest.current else ""

    def take(self) -> str:
        """Return the line to show, without the number of the step, and count it as shown."""
        self._shown = latest = self.latest
        parts = [latest.id, *([self.amount] if self.amount else [])]
        until = latest.timestamp if latest.completed is None else latest.completed
        if until is not None and latest.started is not None and until - latest.started > 10_000_000:
            parts.append(quantities.seconds(until - latest.started))
        if latest.completed is not None:
            parts.append("done")
        return " ".join(parts)

    def _grew(self, shown: VertexStatus, latest: VertexStatus) -> bool:
        return latest.total > 0 and latest.current - shown.current >= latest.total * self._SHARE

    def _aged(self, shown: VertexStatus, latest: VertexStatus) -> bool:
        return (latest.timestamp or 0) - (shown.timestamp or 0) >= self._INTERVAL


class LogPiece(NamedTuple):
    """A line of output or a part of one.

    Attributes:
        stamp: seconds since the step started and a space; empty if unknown.
        text: without line end; bytes that are not UTF-8 as surrogate escapes.
        ends_line: whether a line end followed.
    """

    stamp: str
    text: str
    ends_line: bool


class StepLog:
    """What a step printed and was not shown yet, and the last lines of all."""

    def __init__(self, tail_lines: int = _TAIL_LINES) -> None:
        self.pending: list[LogPiece] = []
        self._tail: deque[str] = deque(maxlen=tail_lines)
        self._line_is_open = False
        # The daemon cuts the output anywhere, also inside a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    @property
    def tail(self) -> list[str]:
        """The last lines, each with its time, oldest first."""
        return list(self._tail)

    def add(self, log: VertexLog, age: int | None) -> None:
        """Take in output that the step printed at ``age`` nanoseconds."""
        self._add_text(self._decoder.decode(log.data), "" if age is None else f"{quantities.elapsed(age)} ")

    def flush(self) -> None:
        """Give up waiting for the rest of a character."""
        self._add_text(self._decoder.decode(b"", final=True), "")

    def take(self) -> list[LogPiece]:
        """Return what was not shown yet, and count it as shown."""
        pending, self.pending = self.pending, []
        return pending

    def _add_text(self, text: str, stamp: str) -> None:
        if not text:
            return
        *lines, rest = text.split("\n")
        pieces = [LogPiece(stamp, line, ends_line=True) for line in lines]
        if rest:
            pieces.append(LogPiece(stamp, rest, ends_line=False))
        for piece in pieces:
            self._remember(piece)
        self.pending.extend(pieces)

    def _remember(self, piece: LogPiece) -> None:
        if self._line_is_open:
            self._tail[-1] = (self._tail[-1] + piece.text)[:_TAIL_LINE_LENGTH]
        else:
            self._tail.append((piece.stamp + piece.text)[:_TAIL_LINE_LENGTH])
        self._line_is_open = not piece.ends_line
