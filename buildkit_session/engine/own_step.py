"""Steps of this side's own, told in the form in which a daemon tells of its steps.

An Engine that loads or pushes an image reports JSON objects, one for each change of a layer; these become statuses.

Source: docker/buildx:util/progress/fromreader.go, build/build.go (pushWithMoby);
moby/moby:api/types/jsonstream (Progress).
"""

from __future__ import annotations

import hashlib
import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import anyio

from buildkit_session.engine.events import Vertex, VertexStatus
from buildkit_session.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence

    from buildkit_session.engine.events import ProgressEvent

    Tell: TypeAlias = Callable[[Sequence[ProgressEvent]], Awaitable[None]]
    """Hands events to whoever follows the build."""

__all__ = ["OwnStep", "own_step"]


class OwnStep:
    """A step that runs; made by :func:`own_step`."""

    def __init__(self, vertex: Vertex, tell: Tell) -> None:
        self._vertex = vertex
        self._tell = tell
        self._layers: dict[str, VertexStatus] = {}

    async def report(self, entry: Mapping[str, object], *, verb: str, done: Collection[str]) -> None:
        """Tell what an object of the Engine says about a layer, if it says anything.

        Args:
            entry: the object.
            verb: what is done to layers, such as ``pushing layer``.
            done: what the Engine says of a layer that is finished.
        """
        name, said = entry.get("id"), entry.get("status")
        if not isinstance(name, str) or not name:
            return
        detail = entry.get("progressDetail")
        current, total = (
            (_size(detail.get(key)) for key in ("current", "total")) if isinstance(detail, dict) else (0, 0)
        )
        found = self._layers.get(name)
        if found is None and not current and said not in done:
            return
        now = time.time_ns()
        status = found or VertexStatus(f"{verb} {name}", self._vertex.digest, name, 0, 0, started=now)
        if said in done:
            status = replace(status, current=status.total, timestamp=now, completed=now)
        else:
            status = replace(status, current=current, total=total or status.total, timestamp=now)
        self._layers[name] = status
        await self._tell([status])


@asynccontextmanager
async def own_step(name: str, tell: Tell) -> AsyncIterator[OwnStep]:
    """Tell of a step that begins and ends with the block.

    Args:
        name: of the step.
        tell: gets the events.
    """
    digest = f"sha256:{hashlib.sha256(secrets.token_bytes(16)).hexdigest()}"
    vertex = Vertex(digest, name, started=time.time_ns())
    await tell([vertex])
    try:
        yield OwnStep(vertex, tell)
    except SessionError as error:
        await tell([replace(vertex, completed=time.time_ns(), error=str(error))])
        raise
    except anyio.get_cancelled_exc_class():
        raise  # nobody listens any more
    else:
        await tell([replace(vertex, completed=time.time_ns())])


def _size(value: object) -> int:
    return max(value, 0) if isinstance(value, int) else 0
