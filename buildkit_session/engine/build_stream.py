"""The answer to ``POST /build``: an iterator of progress events that ends, or raises, as the build does."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Self

from buildkit_session.engine.build_log import BuildLog
from buildkit_session.engine.faults import shortened
from buildkit_session.engine.json_stream import JsonStream
from buildkit_session.engine.progress import decode_object, failure_of
from buildkit_session.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.engine.json_stream import ByteSource

__all__ = ["BuildStream"]


class BuildStream:
    """The progress events of one running build, in the daemon's order.

    The iteration ends when the build has succeeded: the Engine writes no other mark of success, so only the
    proper end of a well-formed answer counts. It raises:

    - ``BuildError``: the build failed; carries the failing step and the end of its log.
    - ``ConnectionClosed``: the answer was cut off.
    - ``RemoteProtocolError``: the answer is not what an Engine sends.

    A cancelled ``__anext__`` loses no event.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._json = JsonStream()
        self._log = BuildLog()
        self._objects: deque[dict[str, object]] = deque()
        self._events: deque[ProgressEvent] = deque()
        self._ended = False  # no more bytes
        self._failure: BuildError | None = None

    @property
    def finished(self) -> bool:
        """Whether the daemon is known to be done with the build, well or not."""
        return self._ended or self._failure is not None

    @property
    def exporter_response(self) -> Mapping[str, str]:
        """Nothing: the Engine does not pass on what exporters report."""
        return {}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ProgressEvent:
        while not self._events:
            if self._failure is not None:
                raise self._failure
            if self._objects:
                self._open(self._objects.popleft())
            elif self._ended:
                raise StopAsyncIteration
            else:
                await self._receive()
        return self._events.popleft()

    async def _receive(self) -> None:
        data = await self._source.receive()
        self._objects += self._json.feed(data) if data else self._json.close()
        self._ended = not data

    def _open(self, entry: dict[str, object]) -> None:
        message = failure_of(entry)
        if message is not None:
            self._failure = BuildError(shortened(message), step=self._log.failed_step(message))
            return
        events = decode_object(entry)
        self._log.feed(events)
        self._events += events
