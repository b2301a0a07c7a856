"""A build's display on a terminal or another stream, repainted while the build goes on.

Writing happens in a thread: a stopped terminal must not stop the session's answers to the daemon.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from buildkit_session.cli.console import StreamLostError
from buildkit_session.engine.events import Vertex, VertexWarning
from buildkit_session.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from buildkit_session.cli.console import Console
    from buildkit_session.cli.display import Display
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.errors import BuildError

__all__ = ["Screen", "make_feed"]

_REPAINT_INTERVAL: Final = 0.1  # seconds, as upstream
# Events taken in between two repaints; a display that cannot keep up slows the stream down instead of filling memory.
_EVENTS_PER_REPAINT: Final = 1000


def make_feed() -> tuple[MemoryObjectSendStream[ProgressEvent], MemoryObjectReceiveStream[ProgressEvent]]:
    """Make a queue for :meth:`Screen.follow`; it is full with what one repaint shows."""
    return anyio.create_memory_object_stream["ProgressEvent"](_EVENTS_PER_REPAINT)


class Screen:
    """A display and the stream it is shown on.

    Args:
        display: makes the text.
        console: the stream.

    Attributes:
        export_started: whether the daemon has begun to send a result that goes to this machine.
        warnings: all that there were.
    """

    def __init__(self, display: Display, console: Console) -> None:
        self._display = display
        self._console = console
        self._lost: StreamLostError | None = None  # set by the task that repaints
        self._unseen = 0  # events taken in since the last repaint
        self.export_started = False
        self.warnings: list[VertexWarning] = []

    def close(self, failure: BuildError | None) -> None:
        """Show what is left."""
        self._display.resize(*self._console.size)
        self._write(self._display.finish(failure))

    def _write(self, text: str) -> None:
        self._console.write(text, safe=self._display.drives_terminal)

    async def follow(self, events: AsyncIterable[ProgressEvent], *, begins: bool = True) -> None:
        """Show that a build begins, then its events until there are no more.

        Args:
            events: of the build.
            begins: whether it begins here; nothing is said of that otherwise.

        Raises:
            SessionError: from the events.
            StreamLostError: the stream takes no more text.
        """
        failure: SessionError | None = None
        ended = anyio.Event()
        painting = anyio.Lock()
        if begins:
            self._write(self._display.start())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_painting, painting, ended, tasks.cancel_scope)
            try:
                await self._take_in(events, painting)
            except SessionError as error:
                failure = error  # raised below: the group would wrap it
            ended.set()
        if failure is not None:
            raise failure
        if self._lost is not None:
            raise self._lost

    async def _take_in(self, events: AsyncIterable[ProgressEvent], painting: anyio.Lock) -> None:
        async for event in events:
            self._display.handle(event)
            self.export_started |= _is_start_of_export(event)
            if isinstance(event, VertexWarning):
                self.warnings.append(event)
            self._unseen += 1
            if self._unseen >= _EVENTS_PER_REPAINT:
                await self._paint(painting)

    async def _keep_painting(self, painting: anyio.Lock, ended: anyio.Event, scope: anyio.CancelScope) -> None:
        while not ended.is_set():
            await self._paint(painting)
            if self._lost is not None:
                scope.cancel()
            with anyio.move_on_after(_REPAINT_INTERVAL):
                await ended.wait()

    async def _paint(self, painting: anyio.Lock) -> None:
        async with painting:
            self._unseen = 0
            self._display.resize(*self._console.size)
            text = self._display.refresh(time.monotonic())
            if not text:
                return
            try:
                await anyio.to_thread.run_sync(self._write, text, abandon_on_cancel=True)
            except StreamLostError as error:
                self._lost = error


def _is_start_of_export(event: ProgressEvent) -> bool:
    # "exporting to client" in BuildKit 0.8, "exporting to client directory" since 0.12
    return isinstance(event, Vertex) and event.started is not None and event.name.startswith("exporting to client")
