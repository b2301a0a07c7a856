"""Exit codes, and errors as lines for people."""

from __future__ import annotations

import traceback

from buildkit_session.cli.console import Console
from buildkit_session.errors import BuildError, SessionError

__all__ = ["BAD_USAGE", "FAILURE", "READER_GONE", "SUCCESS", "explain", "report", "usage_hint"]

SUCCESS = 0
FAILURE = 1
BAD_USAGE = 125
READER_GONE = 141  # 128 + SIGPIPE, what the shell reports for a program that a closed pipe ended


def report(message: str) -> None:
    """Write the last word about what failed."""
    Console.messages().write(f"ERROR: {message}\n")


def usage_hint(usage: str, command: str) -> str:
    """Say, below an error, what would have been right."""
    return f"\n\n{usage}\n\nRun '{command} --help' for more information"


def explain(error: SessionError, *, debug: bool, action: str = "build") -> str:
    """Say why an action failed, in buildx's words; with ``debug``, where it was raised as well."""
    trace = "".join(traceback.format_exception(error)) if debug else ""
    return f"failed to {action}: {_text(error)}\n{trace}".rstrip("\n")


def _text(error: SessionError) -> str:
    text = str(error) or type(error).__name__
    # Engines before 23.0 write these words themselves, and continue them with the name of the frontend.
    if isinstance(error, BuildError) and not text.startswith("failed to solve"):
        return f"failed to solve: {text}"
    return text
