"""The displays that show no progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_session.cli.display import Display, failure_block

if TYPE_CHECKING:
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.errors import BuildError

__all__ = ["NoDisplay", "QuietDisplay"]


class NoDisplay(Display):
    """``--progress=none``: nothing at all."""

    def start(self) -> str:
        """Show nothing."""
        return ""

    def handle(self, _event: ProgressEvent, /) -> None:
        """Forget the event."""

    def refresh(self, _now: float, /) -> str:
        """Show nothing."""
        return ""

    def finish(self, _failure: BuildError | None, /) -> str:
        """Show nothing."""
        return ""


class QuietDisplay(NoDisplay):
    """``--quiet``: nothing, unless a step fails: then the end of what it printed, for the error alone says little."""

    def finish(self, failure: BuildError | None, /) -> str:
        """Show the log of the failed step."""
        if failure is None or failure.step is None:
            return ""
        return failure_block(failure.step.name, failure.step.log)
