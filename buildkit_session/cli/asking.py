"""Commands that ask a daemon something: connecting, Ctrl-C and errors are the same for all of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from buildkit_session.cli import interruption
from buildkit_session.cli.chosen_builder import choose_builder
from buildkit_session.cli.failure import FAILURE, SUCCESS, exit_code, explain, report
from buildkit_session.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buildkit_session import Client
    from buildkit_session.cli.flags import CommandLine

__all__ = ["ask", "refuse"]


def ask(line: CommandLine, question: Callable[[Client], Awaitable[None]]) -> int:
    """Connect to the daemon that the command line names, and return the exit code.

    Args:
        line: the command line.
        question: does what the command is for, and writes the answer.
    """
    if line.is_set("debug"):
        logging.basicConfig(level=logging.DEBUG)

    async def connected() -> None:
        async with choose_builder(line.last("host"), line.last("builder")).connect() as client:
            await question(client)

    try:
        interruption.run(connected)
    except interruption.SignalError as error:
        report(str(error))
        return error.exit_code
    except SessionError as error:
        return refuse(line, error)
    return SUCCESS


def refuse(line: CommandLine, error: SessionError) -> int:
    """Say why a command failed, and return its exit code."""
    report(explain(error, debug=line.is_set("debug"), action=""))
    return exit_code(error) or FAILURE
