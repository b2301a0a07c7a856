"""A build under way, and what comes of it."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias

import anyio
from anyio import to_thread

from buildkit_session.engine.events import ImageId, Vertex
from buildkit_session.engine.metadata_file import image_id
from buildkit_session.errors import (
    BuildError,
    CallbackError,
    ConnectionClosed,
    LocalProtocolError,
    RemoteProtocolError,
    RpcError,
    SessionError,
    StreamReset,
    TransferError,
)
from buildkit_session.services.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from buildkit_session.engine.build_stream import BuildStream
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.engine.solving import SolveStream
    from buildkit_session.http2.connection import Connection
    from buildkit_session.output import Output
    from buildkit_session.services.exported import Exported
    from buildkit_session.services.targets import DirectoryTarget, FeedTarget, FileTarget, ListingTarget, StreamTarget
    from buildkit_session.session import Session

    Target: TypeAlias = DirectoryTarget | FeedTarget | FileTarget | ListingTarget | StreamTarget

__all__ = ["Build", "BuildResult", "Lifeline"]

_IMPORT: Final = "importing cache manifest"
"""What the names of steps begin with that import cache; that one fails does not fail the build."""

EXPORT_PATIENCE: Final = 30.0
"""Seconds that exports may go on after the daemon has reported the end of the build."""

LAST_WORDS: Final = 0.3
"""Seconds for what the daemon has said of a build before its session was lost."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a successful build has made.

    Attributes:
        image_id: of the image, ``sha256:...``; ``None`` when files were exported, or nothing.
        outputs: where results were written to, as asked for.
        exports: what was written to directories, and what listings found, in the order of the outputs.
        ref: the name of the build in the daemon's history; empty where the Engine's own endpoint ran it.
        metadata: what the exporters report, such as ``containerimage.digest``; likewise.
        warnings: what was left out, and the build has succeeded all the same: cache that could not be imported, or not
            be exported where that is allowed (``ignore-error``), annotations without an image that was asked for.
    """

    image_id: str | None
    outputs: tuple[Output, ...]
    exports: tuple[Exported, ...] = ()
    ref: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)  # long, and half of it base64
    warnings: tuple[str, ...] = ()


class Finish(Protocol):
    """What is left to do when a build has succeeded."""

    def __call__(self, response: Mapping[str, str], failure: Exception | None, /) -> Iterable[str]:
        """Do it, in a thread, given what the exporters report and what went wrong on this side, if anything.

        Returns:
            Warnings.

        Raises:
            SessionError: it could not be done.
        """


class Build:
    """A build under way: iterate over it for its progress, then ask for its result. Made by :meth:`Client.start`."""

    def __init__(
        self,
        stream: BuildStream | SolveStream,
        session: Session,
        lifeline: Lifeline,
        outputs: Sequence[Output],
        targets: Collection[Target],
        *,
        ref: str = "",
        explain: Callable[[str], SessionError | None],
        finish: Finish | None = None,
        warnings: Iterable[str] = (),
    ) -> None:
        self._stream = stream
        self._session = session
        self._lifeline = lifeline
        # A session exporter may add to both until the build has ended.
        self._outputs = outputs
        self._targets = targets
        self._explain = explain
        self._finish = finish
        self._image_id: str | None = None
        self._left = False  # the block of Client.start()
        self.ref = ref
        self.warnings = tuple(warnings)
        self._failed_imports: dict[str, str] = {}  # by digest

    def __repr__(self) -> str:
        return f"<Build session={self._session.id} finished={self.finished}>"

    @property
    def finished(self) -> bool:
        """Whether the daemon has reported the end of the build."""
        return self._stream.finished

    def __aiter__(self) -> Self:
        """Iterate over events as they arrive. A build that is not read from is slowed down, not lost."""
        return self

    async def __anext__(self) -> ProgressEvent:
        """Return the next event.

        Raises:
            BuildError: the build failed.
            TransferError: it failed because files could not be sent or written here.
            UnsupportedError: the daemon cannot do what was asked.
            ConnectionClosed: the daemon went away.
            LocalProtocolError: the block of :meth:`Client.start` was left before the build had ended.
        """
        if self._left and not self._stream.finished:
            raise LocalProtocolError("the build was cancelled: its block was left before it had ended")
        try:
            event = await self._next()
        except BuildError as error:
            cause = self._session.failure_behind(error.message) or self._explain(error.message)
            if isinstance(cause, CallbackError):
                raise cause from cause.__cause__ or error  # the caller's own exception, if it may be shown
            if isinstance(cause, SessionError):
                error.__cause__ = cause.__cause__  # or what a function of the caller has raised would be lost
                raise cause from error
            raise error from cause
        if isinstance(event, ImageId):
            self._image_id = event.id
        elif isinstance(event, Vertex) and event.error and event.name.startswith(_IMPORT):
            self._failed_imports[event.digest] = f"{event.name} failed: {event.error}"
        return event

    async def result(self) -> BuildResult:
        """Wait for the end and return what was made; events not yet read are dropped.

        Only now do outputs with ``mode="mirror"`` or ``"swap"`` remove or replace what was there.

        Raises: as :meth:`__anext__`; and ``RemoteProtocolError`` when the daemon names an image by what is no digest.
        """
        async for _ in self:
            pass
        response = self._stream.exporter_response
        image = _checked(self._image_id or image_id(response))
        for target in self._targets:
            await _wait_for(target)
        exports = [await target.commit() for target in self._targets]
        failed_exports = await self._finish_layouts(response)
        return BuildResult(
            image or None,
            tuple(self._outputs),
            tuple(export for export in exports if export is not None),
            self.ref,
            response,
            (*self.warnings, *self._failed_imports.values(), *failed_exports),
        )

    async def _next(self) -> ProgressEvent:
        while not self._stream.finished:
            try:
                with self._lifeline.waiting():
                    return await anext(self._stream)
            except ConnectionClosed:
                if not self._stream.finished:  # else the end of the build is known, and what is left to tell arrives
                    raise
        return await anext(self._stream)

    async def _finish_layouts(self, response: Mapping[str, str]) -> Iterable[str]:
        if self._finish is None:
            return ()
        failure = self._session.own_failure
        try:
            return await to_thread.run_sync(self._finish, response, failure)
        except (RemoteProtocolError, TransferError) as error:
            # A daemon that did not hear, or does not tell, that this side could not write.
            if isinstance(failure, SessionError):
                raise failure from error
            raise

    def leave(self) -> None:
        """Say that the block of :meth:`Client.start` was left."""
        self._left = True


class Lifeline:
    """Ends the waits for a build's progress when the session's connection is gone.

    The daemon may notice that loss only when it next needs the session, which can take hours. Only waits end: what has
    arrived by then is still read, and may be the end of the build; so may what arrives in the next moments, as the
    daemon's two connections have no order between them. The caller's own code is never cancelled.
    """

    def __init__(self, connection: Connection, address: str) -> None:
        self._connection = connection
        self._address = address  # of the daemon, for people
        self._waits: set[anyio.CancelScope] = set()
        self._deadline = math.inf
        connection.on_closed = self._cut

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for the daemon inside of this.

        Raises:
            ConnectionClosed: the block had to wait, and the connection is gone.
        """
        if self._connection.closed.is_set():
            self._cut()
        with anyio.CancelScope(deadline=self._deadline) as wait:
            self._waits.add(wait)
            try:
                yield
            finally:
                self._waits.discard(wait)
        if wait.cancelled_caught:
            text = f"the daemon at {self._address} closed the session during the build"
            raise ConnectionClosed(text) from self._connection.error

    def _cut(self) -> None:
        self._deadline = min(self._deadline, anyio.current_time() + LAST_WORDS)
        for wait in self._waits:
            wait.deadline = self._deadline


def _checked(image: str) -> str:
    """Return the id of an image, which others put into files and command lines."""
    if image and Digest.parse(image) is None:
        raise RemoteProtocolError(
            f"the daemon reports success, and an image by the id {image[:80]!r}, which is no digest"
        )
    return image


async def _wait_for(target: Target) -> None:
    """Wait for the last stream of an export: the daemon's two connections have no order between them."""
    with anyio.move_on_after(EXPORT_PATIENCE):
        try:
            if await target.finished():
                return
        except (StreamReset, RpcError) as error:  # of a single call: no terms of the caller's
            raise TransferError(f"the daemon reports success, but its export broke off: {error}") from error
        raise TransferError("the daemon reports success, but it has exported nothing")
    raise TransferError("the daemon reports success, but the export did not come to its end")
