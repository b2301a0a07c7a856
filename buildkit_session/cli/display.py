"""What a display is: progress events in, text for standard error out.

A display is pure. It writes nothing, reads no clock and starts nothing, so it is tested with recorded events and
without a terminal; who owns it decides when to repaint and where the text goes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.errors import BuildError

__all__ = ["Display", "failure_block"]

_RULE = "------"


class Display(ABC):
    """One way to show a build. Every method returns the text to append to what was shown before.

    Call :meth:`start` once, then :meth:`handle` for each event and :meth:`refresh` from time to time, in any order,
    and :meth:`finish` once. Text may hold surrogate escapes where a step printed bytes that are not UTF-8.
    """

    @abstractmethod
    def start(self) -> str:
        """Say that a build begins."""

    @abstractmethod
    def handle(self, event: ProgressEvent, /) -> None:
        """Take in one event. Nothing is shown before the next refresh."""

    @abstractmethod
    def refresh(self, now: float, /) -> str:
        """Show what is new.

        Args:
            now: seconds on a clock that never goes back; only differences count.
        """

    @abstractmethod
    def finish(self, failure: BuildError | None, /) -> str:
        """Show what is left, and why the build failed if it did. The message of the error itself is not shown."""


def failure_block(name: str, lines: Iterable[str]) -> str:
    """Frame the last lines that a failed step printed."""
    return "\n".join([_RULE, f" > {name}:", *lines, _RULE, ""])
