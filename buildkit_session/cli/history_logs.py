"""``buildkit-session history logs``: the progress of a build that has ended, or of one that runs.

It goes to standard error, as that of a build does. Without a build the newest is meant; ``^1`` is the one before.

Source: docker/buildx:commands/history/logs.go, commands/history/utils.go (queryRecords).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from buildkit_session.cli.build_flags import BUILDER
from buildkit_session.cli.console import Console
from buildkit_session.cli.flags import Flag
from buildkit_session.errors import InputError, SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_session import Client
    from buildkit_session.cli.display import Display
    from buildkit_session.cli.flags import CommandLine
    from buildkit_session.engine.history_values import BuildRecord

__all__ = ["FLAGS", "OPERANDS", "USAGE", "run"]

USAGE = "history logs [OPTIONS] [REF | ^N]"
OPERANDS = (0, 1)
FLAGS = (BUILDER, Flag("progress", "Type of progress: plain, rawjson or tty (default: plain)", "TYPE"))

_OFFSET: Final = re.compile(r"\^([0-9]{1,6})", re.ASCII)


def run(line: CommandLine) -> int:
    """Run the command and return its exit code."""
    from buildkit_session.cli import asking  # noqa: PLC0415 - it loads the client, which help does not need

    wanted = line.operands[0] if line.operands else ""
    try:
        display = _display(line)
        _check(wanted)
    except SessionError as error:
        return asking.refuse(line, error)

    async def question(client: Client) -> None:
        from buildkit_session.cli.screen import Screen  # noqa: PLC0415 - as above

        ref = wanted.rpartition("/")[2]
        if not ref or ref.startswith("^"):
            ref = _chosen(await client.history(), ref)
        screen = Screen(display, Console.messages())
        async with client.history_logs(ref) as events:
            await screen.follow(events, begins=False)  # nor does buildx say so
        screen.close(None)

    return asking.ask(line, question)


def _display(line: CommandLine) -> Display:
    from buildkit_session.cli.displays import choose_display  # noqa: PLC0415 - as above

    mode = line.last("progress") or "plain"
    return choose_display(
        "plain" if mode == "auto" else mode,
        terminal=Console.messages().is_terminal,
        environ=os.environ,
        debug=line.is_set("debug"),
    )


def _check(wanted: str) -> None:
    if wanted.startswith("^") and not _OFFSET.fullmatch(wanted):
        raise InputError(f'invalid offset "{wanted}": use ^1 for the build before the newest, and so on')


def _chosen(records: Sequence[BuildRecord], wanted: str) -> str:
    """Pick a build by its place, the newest first."""
    offset = int(wanted[1:] or 0)
    if not records:
        raise InputError("no records found")
    if offset >= len(records):
        raise InputError(f"no completed build found with offset {offset}")
    return records[offset].ref
