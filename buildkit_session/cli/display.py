"""What a display is: progress events in, text for standard error out.

A display is pure. It writes nothing, reads no clock and starts nothing, so it is tested with recorded events and
without a terminal; who owns it decides when to repaint and where the text goes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.errors import BuildError

__all__ = ["Display", "failure_block", "one_line"]

_RULE = "------"


class Display(ABC):
    """One way to show a build. Every method returns the text to append to what was shown before.

    Call :meth:`start` once, then :meth:`handle` for each event and :meth:`refresh` from time to time, in any order,
    and :meth:`finish` once. Text may hold surrogate escapes where a step printed bytes that are not UTF-8.

    Attributes:
        drives_terminal: whether the text moves the cursor. Such a display escapes what came from the daemon itself, and
            its text must reach the terminal unchanged; any other text must be made safe for a terminal first.
    """

    drives_terminal: ClassVar[bool] = False

    @abstractmethod
    def start(self) -> str:
        """Say that a build begins."""

    def resize(self, width: int, height: int, /) -> None:  # noqa: B027 - lines that are only appended fit anywhere
        """Say how many columns and rows the terminal has, before a refresh; displays that do not care ignore it."""

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


def one_line(text: str) -> str:
    """Show the line ends inside a name as text, so that it cannot forge lines."""
    return text.replace("\r", "\\r").replace("\n", "\\n")
