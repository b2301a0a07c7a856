"""What must be remembered of a build's progress to say, when it fails, where and after which output.

Kept small on purpose: a daemon may print for hours and report any number of steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_session.engine.events import ProgressEvent, Vertex, VertexLog
from buildkit_session.engine.faults import shortened
from buildkit_session.errors import FailedStep

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BuildLog"]

# Far more than a screen, far less than a problem: 64 KiB for each step that runs.
MAX_LINES = 100
MAX_BYTES = 64 * 1024
# BuildKit runs at most a few steps per core at once; graphs of thousands of steps exist.
MAX_STEPS = 1024

# BuildKit tells cancelled steps from failed ones by this end of the text alone (util/progress/progressui/display.go).
_CANCELED = "context canceled"


class BuildLog:
    """Fed with every event of one build, in order."""

    def __init__(self) -> None:
        # By digest, the most recent change last. A step leaves both when it completes without an error.
        self._failed: dict[str, Vertex] = {}
        self._output: dict[str, _Tail] = {}

    def feed(self, events: Iterable[ProgressEvent]) -> None:
        """Take note of events; those that do not matter for a failure are ignored."""
        for event in events:
            match event:
                case Vertex():
                    self._note(event)
                case VertexLog():
                    self._output.setdefault(event.vertex, _Tail()).append(event.data)
                    _forget_oldest(self._output)

    def failed_step(self, message: str = "", *, digest: str = "") -> FailedStep | None:
        """Return the step to blame, or ``None`` when no step has an error of its own.

        Several steps may fail at once: the one that ``digest`` names goes before the one whose error is part of
        ``message``, the text that the whole build failed with, and this one before the one that failed last.
        """
        failed = list(self._failed.values())
        named = [vertex for vertex in failed if vertex.digest == digest]
        blamed = named or [vertex for vertex in failed if vertex.error in message] or failed
        if not blamed:
            return None
        vertex = blamed[-1]
        output = self._output.get(vertex.digest)
        lines = output.lines() if output else ()
        return FailedStep(shortened(vertex.name), vertex.digest, shortened(vertex.error), lines)

    def _note(self, vertex: Vertex) -> None:
        self._failed.pop(vertex.digest, None)  # an error may be withdrawn
        if vertex.error and not vertex.error.endswith(_CANCELED):
            self._failed[vertex.digest] = vertex
            _forget_oldest(self._failed)
        elif vertex.completed is not None:
            self._output.pop(vertex.digest, None)


class _Tail:
    """The end of a step's output."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._cut = False

    def append(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 2 * MAX_BYTES:  # twice, so that trimming costs one copy per byte in the long run
            self._trim()

    def lines(self) -> tuple[str, ...]:
        self._trim()
        lines = bytes(self._data).split(b"\n")
        if self._cut and len(lines) > 1:
            del lines[0]  # its beginning is gone
        if not lines[-1]:
            del lines[-1]  # what follows the last newline
        return tuple(line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines[-MAX_LINES:])

    def _trim(self) -> None:
        surplus = len(self._data) - MAX_BYTES
        if surplus > 0:
            del self._data[:surplus]
            self._cut = True


def _forget_oldest(steps: dict[str, Vertex] | dict[str, _Tail]) -> None:
    if len(steps) > MAX_STEPS:
        del steps[next(iter(steps))]
