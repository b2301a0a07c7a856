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
        current, total = _progress(entry.get("progressDetail"))
        is_done = isinstance(said, str) and said in done
        if name not in self._layers and not current and not is_done:
            return  # it waits
        now = time.time_ns()
        known = self._layers.get(name) or VertexStatus(f"{verb} {name}", self._vertex.digest, name, 0, 0, started=now)
        if is_done:
            status = replace(known, current=known.total, timestamp=now, completed=now)
        else:
            status = replace(known, current=current, total=total or known.total, timestamp=now)
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


def _progress(detail: object) -> tuple[int, int]:
    """How much of how much is done; zeros for what is not said."""
    said = detail if isinstance(detail, dict) else {}
    return _size(said.get("current")), _size(said.get("total"))


def _size(value: object) -> int:
    return max(value, 0) if isinstance(value, int) else 0
