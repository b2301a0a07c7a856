"""``buildkit-session history logs``: the progress of a build that has ended, or of one that runs.

It goes to standard error, as that of a build does. Without a build the newest is meant; ``^1`` is the one before.

Source: docker/buildx:commands/history/logs.go, commands/history/utils.go (queryRecords).
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Final

from buildkit_session.cli.console import Console, StreamLostError
from buildkit_session.cli.flags import Flag
from buildkit_session.errors import InputError, SessionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from anyio import CancelScope

    from buildkit_session import Client, ProgressEvent
    from buildkit_session.cli.display import Display
    from buildkit_session.cli.flags import CommandLine
    from buildkit_session.engine.history_values import BuildRecord

__all__ = ["FLAGS", "OPERANDS", "USAGE", "run"]

USAGE = "history logs [OPTIONS] [REF | ^N]"
OPERANDS = (0, 1)
FLAGS = (Flag("progress", "Type of progress: plain, rawjson or tty (default: plain)", "TYPE"),)

_OFFSET: Final = re.compile(r"\^([0-9]{1,6})", re.ASCII)
_REPAINT_INTERVAL: Final = 0.1  # seconds
_EVENTS_PER_REPAINT: Final = 1000


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
        ref = wanted.rpartition("/")[2]
        if not ref or ref.startswith("^"):
            ref = _chosen(await client.history(), ref)
        async with client.history_logs(ref) as events:
            await _follow(events, display)

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


async def _follow(events: AsyncIterator[ProgressEvent], display: Display) -> None:
    from buildkit_session.supervision import supervised  # noqa: PLC0415 - as above

    screen = _Screen(display)
    # The display is not started: no build begins here, and buildx does not say so.
    async with supervised() as tasks:
        tasks.start_soon(screen.keep_painting, tasks.cancel_scope)
        async for event in events:
            screen.take(event)
        tasks.cancel_scope.cancel()
    if screen.lost is not None:
        raise screen.lost
    screen.write(display.finish(None))


class _Screen:
    """A display on standard error."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._console = Console.messages()
        self._unseen = 0  # events taken in since the last repaint
        self.lost: StreamLostError | None = None  # why the task that repaints has ended

    def take(self, event: ProgressEvent) -> None:
        self._display.handle(event)
        self._unseen += 1
        if self._unseen >= _EVENTS_PER_REPAINT:
            self._paint()

    async def keep_painting(self, scope: CancelScope) -> None:
        import anyio  # noqa: PLC0415 - as above

        try:
            while True:
                await anyio.sleep(_REPAINT_INTERVAL)
                self._paint()
        except StreamLostError as error:
            self.lost = error
            scope.cancel()

    def write(self, text: str) -> None:
        self._display.resize(*self._console.size)
        self._console.write(text, safe=self._display.drives_terminal)

    def _paint(self) -> None:
        self._unseen = 0
        self.write(self._display.refresh(time.monotonic()))
