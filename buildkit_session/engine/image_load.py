"""An image that goes from the exporter of a build into an Engine: ``POST /images/load`` while the build still exports.

The request lives as long as the stream of the export. Its end is the end of the archive, and only the Engine's answer
to that decides whether the export has succeeded.

Source: docker/buildx:util/dockerutil/client.go (LoadImage, Features);
moby/moby:api/server/router/image/image_routes.go.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Final

import anyio

from buildkit_session.engine.json_stream import read_objects
from buildkit_session.engine.json_values import as_list
from buildkit_session.engine.own_step import own_step
from buildkit_session.engine.progress import failure_of
from buildkit_session.errors import ConnectionClosed, EngineError, SessionError, TransferError
from buildkit_session.supervision import supervised

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from buildkit_session.engine.client import EngineClient
    from buildkit_session.engine.own_step import OwnStep, Tell
    from buildkit_session.fsutil.content import Piece
    from buildkit_session.services.writers import Feed

__all__ = ["ImageLoader"]

_STEP: Final = "importing to docker"
_CONTAINERD: Final = ["driver-type", "io.containerd.snapshotter.v1"]
_LOADED: Final = frozenset({"Loading layer complete", "Already exists"})


class ImageLoader:
    """Loads images into one Engine.

    Args:
        engine: the Engine, entered.
        tell: gets the progress.
    """

    def __init__(self, engine: EngineClient, tell: Tell) -> None:
        self._engine = engine
        self._tell = tell

    def __repr__(self) -> str:
        return f"<ImageLoader into {self._engine.endpoint}>"

    async def takes_layouts(self) -> bool:
        """Whether the Engine takes OCI layouts, with images for several platforms: those with containerd's store do."""
        try:
            return _CONTAINERD in as_list((await self._engine.get("/info")).get("DriverStatus"))
        except TypeError:
            return False

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[Feed]:
        """Load what is fed inside the block; leaving it before the feed was flushed gives the request up."""
        send, receive = anyio.create_memory_object_stream[bytes](0)
        load = _Load(self._engine, self._tell, send)
        with send:
            async with supervised() as tasks:
                tasks.start_soon(load.run, receive)
                yield load
                tasks.cancel_scope.cancel()


class _Load:
    """One request: a feed for its body, see :class:`~buildkit_session.services.writers.Feed`."""

    def __init__(self, engine: EngineClient, tell: Tell, send: MemoryObjectSendStream[bytes]) -> None:
        self._engine = engine
        self._tell = tell
        self._send = send
        self._answered = anyio.Event()
        self._failure: SessionError | None = None

    async def write(self, pieces: Sequence[Piece]) -> None:
        try:
            await self._send.send(b"".join(pieces))
        except anyio.BrokenResourceError:
            await self.flush()
            # An Engine that is content with a part has not loaded the image.
            raise TransferError(f"the Engine at {self._engine.endpoint} answered before it had the image") from None

    async def flush(self) -> None:
        """Say that this was the end, and wait for the answer."""
        self._send.close()
        await self._answered.wait()
        if self._failure is not None:
            raise self._failure

    async def run(self, body: MemoryObjectReceiveStream[bytes]) -> None:
        """Send the request and read its answer."""
        with body:
            try:
                async with own_step(_STEP, self._tell) as step:
                    await self._load(body, step)
            except ConnectionClosed as error:
                # What is a lost connection here is a failed export to the build, and must not look like its own.
                self._failure = TransferError(f"the image was not loaded: {error}")
            except SessionError as error:
                self._failure = error
        self._answered.set()

    async def _load(self, body: MemoryObjectReceiveStream[bytes], step: OwnStep) -> None:
        answer = await self._engine.send("POST", "/images/load", {"quiet": "0"}, body=body)
        with closing(answer):
            if answer.status != 200:
                raise await answer.refusal()

            async def take(entry: dict[str, object]) -> None:
                if (text := failure_of(entry)) is not None:
                    raise EngineError(f"the Engine at {self._engine.endpoint} cannot load the image: {text}")
                await step.report(entry, verb="loading layer", done=_LOADED)

            await read_objects(answer, take)
