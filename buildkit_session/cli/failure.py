"""Exit codes, and errors as lines for people."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from buildkit_session.cli.console import Console
from buildkit_session.errors import BuildError, RpcError, SessionError
from buildkit_session.excerpt import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BAD_USAGE",
    "FAILURE",
    "READER_GONE",
    "SUCCESS",
    "excerpts",
    "exit_code",
    "explain",
    "report",
    "usage_hint",
]

SUCCESS = 0
FAILURE = 1
INTERNAL = 100
EXHAUSTED = 102
BAD_USAGE = 125
CANCELLED = 130  # 128 + SIGINT
READER_GONE = 141  # 128 + SIGPIPE, what the shell reports for a program that a closed pipe ended

# By gRPC status code. The numbers are written out, as loading their enum would slow down every mistake in a command.
# Source: docker/buildx:cmd/buildx/main.go (main).
_EXIT_CODES: Final[Mapping[int, int]] = {1: CANCELLED, 8: EXHAUSTED, 13: INTERNAL}


def report(message: str) -> None:
    """Write the last word about what failed."""
    Console.messages().write(f"ERROR: {message}\n")


def usage_hint(usage: str, command: str) -> str:
    """Say, below an error, what would have been right."""
    return f"\n\n{usage}\n\nRun '{command} --help' for more information"


def explain(error: SessionError, *, debug: bool, action: str = "build") -> str:
    """Say why an action failed, in buildx's words; with ``debug``, where it was raised as well.

    Without an action the reason stands alone, as for those commands that buildx says no more of.
    """
    trace = "".join(traceback.format_exception(error)) if debug else ""
    failed = f"failed to {action}: " if action else ""
    return f"{failed}{_text(error)}\n{trace}".rstrip("\n")


def excerpts(error: SessionError) -> str:
    """Show where in the Dockerfile an error happened: what buildx writes before the line that says why."""
    sources = error.sources if isinstance(error, BuildError) else ()
    return "".join(excerpt(source.file, source.ranges) for source in sources)


def exit_code(error: SessionError) -> int:
    """Return the exit code of a command that failed with ``error``, as that of buildx."""
    code = error.code if isinstance(error, BuildError | RpcError) else 0
    return _EXIT_CODES.get(code, FAILURE)


def _text(error: SessionError) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, BuildError) and error.advice:
        text = f"{text}; {error.advice}"
    # Engines before 23.0 write these words themselves, and continue them with the name of the frontend.
    if isinstance(error, BuildError) and not text.startswith("failed to solve"):
        return f"failed to solve: {text}"
    return text
