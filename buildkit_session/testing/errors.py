"""Why something a test needs cannot be had on this machine."""

from __future__ import annotations

from buildkit_session.errors import SessionError

__all__ = ["DaemonUnavailable", "Unavailable"]


class Unavailable(SessionError):
    """A program or a package cannot be had on this machine; the text says why and what would help."""


class DaemonUnavailable(Unavailable):
    """No Docker daemon can be started or reached; where one failed to start, the text ends with the end of its log."""
