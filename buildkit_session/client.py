"""The public API: connect to an Engine, run builds, follow them."""

from __future__ import annotations

import secrets
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import anyio
from anyio import to_thread

from buildkit_session import arguments, output
from buildkit_session.context import Context
from buildkit_session.engine.build_params import BuildParams
from buildkit_session.engine.client import EngineClient
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.events import ImageId
from buildkit_session.engine.hijack import hijack
from buildkit_session.errors import (
    BuildError,
    ConnectionClosed,
    LocalProtocolError,
    RpcError,
    SessionError,
    StreamReset,
    TransferError,
    UnsupportedError,
)
from buildkit_session.request.outputs import for_engine_build, read_outputs
from buildkit_session.services.filesend import FileSend
from buildkit_session.services.filesync import FileSync
from buildkit_session.session import Session, shared_key

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from buildkit_session.engine.build_stream import BuildStream
    from buildkit_session.engine.client import EngineInfo
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.http2.connection import Connection
    from buildkit_session.output import Output
    from buildkit_session.request.outputs import EngineOutput
    from buildkit_session.services import Service
    from buildkit_session.services.exported import Exported
    from buildkit_session.services.targets import DirectoryTarget, FileTarget, ListingTarget, StreamTarget

    _Target: TypeAlias = DirectoryTarget | FileTarget | ListingTarget | StreamTarget

__all__ = ["Build", "BuildResult", "Client", "connect"]

EXPORT_PATIENCE: Final = 30.0
"""Seconds that exports may go on after the daemon has reported the end of the build."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a successful build has made.

    Attributes:
        image_id: of the image in the Engine's store, ``sha256:...``; ``None`` when files were exported.
        outputs: where results were written to, as asked for.
        exports: what was written to directories, and what listings found, in the order of the outputs.
    """

    image_id: str | None
    outputs: tuple[Output, ...]
    exports: tuple[Exported, ...] = ()


class Build:
    """A build under way: iterate over it for its progress, then ask for its result. Made by :meth:`Client.start`."""

    def __init__(
        self,
        stream: BuildStream,
        session: Session,
        lifeline: _Lifeline,
        outputs: tuple[Output, ...],
        targets: Iterable[_Target],
        *,
        explain: Callable[[str], SessionError | None],
    ) -> None:
        self._stream = stream
        self._session = session
        self._lifeline = lifeline
        self._outputs = outputs
        self._targets = tuple(targets)
        self._explain = explain
        self._image_id: str | None = None
        self._left = False  # the block of Client.start()

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
            ConnectionClosed: the daemon went away.
            LocalProtocolError: the block of :meth:`Client.start` was left before the build had ended.
        """
        if self._left and not self._stream.finished:
            raise LocalProtocolError("the build was cancelled: its block was left before it had ended")
        try:
            with self._lifeline.waiting():
                event = await anext(self._stream)
        except BuildError as error:
            cause = self._session.own_failure or self._explain(error.message)
            if isinstance(cause, SessionError):
                raise cause from error
            raise error from cause
        if isinstance(event, ImageId):
            self._image_id = event.id
        return event

    async def result(self) -> BuildResult:
        """Wait for the end and return what was made; events not yet read are dropped.

        Only now do outputs with ``mode="mirror"`` or ``"swap"`` remove or replace what was there.

        Raises: as :meth:`__anext__`.
        """
        async for _ in self:
            pass
        for target in self._targets:
            await _wait_for(target)
        exports = [await target.commit() for target in self._targets]
        return BuildResult(self._image_id, self._outputs, tuple(export for export in exports if export is not None))


class Client:
    """One Engine. Made by :func:`connect`; any number of builds may run at once."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return f"<Client of {self._engine.endpoint}>"

    async def __aenter__(self) -> Self:
        await self._engine.__aenter__()
        try:
            await self._engine.ping()
        except BaseException:
            await self._engine.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Release the connections. Builds that still run are cancelled by leaving their own block."""
        await self._engine.aclose()

    async def info(self) -> EngineInfo:
        """What the Engine says about itself, and the API version in use."""
        return await self._engine.ping()

    async def build(
        self,
        context: str | os.PathLike[str] = ".",
        *,
        file: str | os.PathLike[str] | None = None,
        tags: Sequence[str] = (),
        target: str | None = None,
        build_args: Mapping[str, str | None] | None = None,
        labels: Mapping[str, str] | None = None,
        no_cache: bool = False,
        pull: bool = False,
        network: str | None = None,
        platforms: Sequence[str] = (),
        outputs: Sequence[Output | str] = (),
        on_event: Callable[[ProgressEvent], object] | None = None,
    ) -> BuildResult:
        """Build and return the result. Cancelling this call cancels the daemon's build.

        Args:
            context: the directory that ``COPY`` and ``ADD`` see.
            file: the Dockerfile; ``Dockerfile`` in the context by default. It may lie outside the context.
            tags: names for the image.
            target: the stage to build; the last one by default.
            build_args: values for ``ARG``; one of ``None`` is left to the Dockerfile.
            labels: labels for the image.
            no_cache: run every step again.
            pull: look for newer base images.
            network: of ``RUN`` steps: ``default``, ``none`` or ``host``.
            platforms: ``os/arch[/variant]``; one at most on this API of the Engine.
            outputs: where the result goes: values of :mod:`buildkit_session.output` or texts as for ``--output``; the
                Engine's image store by default. One at most on this API of the Engine.
            on_event: called, and awaited if it is a coroutine function, with every progress event.

        Raises:
            InputError: an argument or a file cannot be used; nothing was sent.
            UnsupportedError: this Engine or this version of the library cannot do what was asked; nothing was sent.
            BuildError: the build ran and failed; names the failing step and the end of its log.
            TransferError: files could not be sent or written.
            RemoteProtocolError: the Engine sent something that is not what an Engine sends.
            EngineError, ConnectionClosed: the Engine refused, or went away.
        """
        async with self.start(
            context,
            file=file,
            tags=tags,
            target=target,
            build_args=build_args,
            labels=labels,
            no_cache=no_cache,
            pull=pull,
            network=network,
            platforms=platforms,
            outputs=outputs,
        ) as build:
            async for event in build:
                if on_event is not None and isawaitable(outcome := on_event(event)):
                    await outcome
            return await build.result()

    @asynccontextmanager
    async def start(
        self,
        context: str | os.PathLike[str] = ".",
        *,
        file: str | os.PathLike[str] | None = None,
        tags: Sequence[str] = (),
        target: str | None = None,
        build_args: Mapping[str, str | None] | None = None,
        labels: Mapping[str, str] | None = None,
        no_cache: bool = False,
        pull: bool = False,
        network: str | None = None,
        platforms: Sequence[str] = (),
        outputs: Sequence[Output | str] = (),
    ) -> AsyncIterator[Build]:
        """Start a build and follow it; arguments and errors as for :meth:`build`.

        .. code-block:: python

            async with client.start(".", outputs=["out"]) as build:
                async for event in build:
                    ...
                result = await build.result()

        Leaving the block before the build has ended cancels the daemon's build.
        """
        chosen = await to_thread.run_sync(_checked_outputs, outputs)
        source = await to_thread.run_sync(Context.find, context, file)
        targets = {number: made for number, out in enumerate(chosen) if (made := _target(out)) is not None}
        with source.opened() as directories:
            shared = FileSync(directories)
            services: list[Service] = [shared]
            if targets:
                services.append(FileSend(targets))
            session = Session(services, shared_key=shared_key(source.directory), name=source.directory.name)
            params = BuildParams(
                build_id=secrets.token_hex(16),
                session=session.id,
                dockerfile=source.dockerfile,
                tags=arguments.tags(tags),
                target=target or "",
                build_args=arguments.variables("build_args", build_args),
                labels=arguments.labels(labels),
                no_cache=no_cache,
                pull=pull,
                network=arguments.network(network),
                platform=_single_platform(platforms),
                outputs=[out.exporter for out in chosen],
            )
            try:
                async with self._running(session, params, chosen, targets.values(), shared.explain) as build:
                    yield build
            finally:
                with anyio.CancelScope(shield=True):
                    for made in targets.values():
                        await made.abandon()

    @asynccontextmanager
    async def _running(
        self,
        session: Session,
        params: BuildParams,
        outputs: tuple[Output, ...],
        targets: Iterable[_Target],
        explain: Callable[[str], SessionError | None],
    ) -> AsyncIterator[Build]:
        path = await self._engine.path("/session")

        async def dial(headers: list[tuple[str, str]], make_connection: Callable[[], Connection]) -> Connection:
            return await hijack(self._engine.endpoint, path, headers, make_connection)

        async with session.serving(dial) as connection, AsyncExitStack() as stack:
            lifeline = _Lifeline(connection)
            with lifeline.waiting():
                stream = await stack.enter_async_context(self._engine.build(params))
            build = Build(stream, session, lifeline, outputs, targets, explain=explain)
            try:
                yield build
            finally:
                build._left = True


class _Lifeline:
    """Ends the waits for a build's progress when the session's connection is gone.

    The daemon may notice that loss only when it next needs the session, which can take hours. Only waits end: what has
    arrived by then is still read, and may be the end of the build; the caller's own code is never cancelled.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waits: set[anyio.CancelScope] = set()
        connection.on_closed = self._cut

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for the daemon inside of this.

        Raises:
            ConnectionClosed: the block had to wait, and the connection is gone.
        """
        with anyio.CancelScope() as wait:
            self._waits.add(wait)
            if self._connection.closed.is_set():
                wait.cancel()
            try:
                yield
            finally:
                self._waits.discard(wait)
        if wait.cancelled_caught:
            raise ConnectionClosed("the daemon closed the session during the build") from self._connection.error

    def _cut(self) -> None:
        for wait in self._waits:
            wait.cancel()


def connect(address: str | None = None) -> Client:
    """Find a Docker Engine; use the result with ``async with``.

    Args:
        address: ``unix:///path``, ``tcp://host:port`` or ``host:port``. By default what the docker CLI would use:
            ``DOCKER_HOST``, the current docker context, then the default and rootless sockets.

    Raises:
        InputError: the address, or a docker context, cannot be used.
        EngineUnreachable: (on entering) nobody answers there.
    """
    return Client(EngineClient(find_endpoint(address)))


def _checked_outputs(outputs: Sequence[Output | str]) -> tuple[EngineOutput, ...]:
    chosen = for_engine_build(read_outputs(outputs))
    if len(chosen) > 1:
        raise UnsupportedError("this API of the Engine takes one output at most; build once for each")
    for out in chosen:
        out.check()
    return chosen


def _single_platform(platforms: Sequence[str]) -> str:
    chosen = arguments.platforms(platforms)
    if len(chosen) > 1:
        raise UnsupportedError("this API of the Engine builds for one platform at a time; build once for each")
    return chosen[0] if chosen else ""


def _target(out: EngineOutput) -> _Target | None:
    if isinstance(out, output.ImageOutput):
        return None
    # Here, not above: a build that exports nothing does without what writes exports, a tenth of all there is to load.
    from buildkit_session.services import targets  # noqa: PLC0415

    if isinstance(out, output.LocalOutput):
        return targets.DirectoryTarget(out.dest, out.receive_options, mode=out.mode)
    if isinstance(out, output.ListingOutput):
        return targets.ListingTarget(out.receive_options)
    if isinstance(out.dest, Path):
        return targets.FileTarget(out.dest, out.limits)
    return targets.StreamTarget(sys.stdout.buffer if out.dest is None else out.dest, out.limits)


async def _wait_for(target: _Target) -> None:
    """Wait for the last stream of an export: the daemon's two connections have no order between them."""
    with anyio.move_on_after(EXPORT_PATIENCE):
        try:
            if await target.finished():
                return
        except (StreamReset, RpcError) as error:  # of a single call: no terms of the caller's
            raise TransferError(f"the daemon reports success, but its export broke off: {error}") from error
        raise TransferError("the daemon reports success, but it has exported nothing")
    raise TransferError("the daemon reports success, but the export did not come to its end")
