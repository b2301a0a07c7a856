"""The public API: connect to a daemon, run builds, follow them."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import anyio
from anyio import to_thread

from buildkit_session import output
from buildkit_session.build import Build, BuildResult, Lifeline
from buildkit_session.context import open_directories
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.daemon import Daemon
from buildkit_session.engine.hijack import hijack
from buildkit_session.errors import InputError, LocalProtocolError, UnsupportedError
from buildkit_session.inputs import prepared
from buildkit_session.request.build_request import BuildRequest
from buildkit_session.request.outputs import default_outputs, sent
from buildkit_session.services.filesend import FileSend
from buildkit_session.services.filesync import FileSync
from buildkit_session.session import Session, shared_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from datetime import timedelta
    from types import TracebackType

    from buildkit_session.build import Target
    from buildkit_session.content_stores import ContentStores
    from buildkit_session.engine.address import Endpoint
    from buildkit_session.engine.cache_records import CacheRecord
    from buildkit_session.engine.client import EngineClient
    from buildkit_session.engine.daemon import DaemonInfo, Way
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.engine.history import History
    from buildkit_session.engine.history_values import BuildRecord
    from buildkit_session.http2.connection import Connection
    from buildkit_session.inputs import ContextLike, Inputs
    from buildkit_session.output import Output
    from buildkit_session.request.keywords import BuildKeywords
    from buildkit_session.services import Service
    from buildkit_session.services.auth import CredentialSource

__all__ = ["Client", "connect"]


class Client:
    """One daemon. Made by :func:`connect`; any number of builds may run at once."""

    def __init__(self, daemon: Daemon, *, credentials: CredentialSource | None = None) -> None:
        self._daemon = daemon
        self._credentials = credentials
        self._entered = False

    def __repr__(self) -> str:
        return f"<Client of {self._daemon.endpoint}>"

    async def __aenter__(self) -> Self:
        if self._entered:
            raise LocalProtocolError("the client has been entered already; make another one with connect()")
        await self._daemon.info()
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Release what the client holds. Builds that still run are cancelled by leaving their own block."""
        self._entered = False

    async def info(self) -> DaemonInfo:
        """What the daemon is, and the way that was chosen to it."""
        return await self._daemon.info()

    async def build(
        self,
        context: ContextLike = ".",
        *,
        file: str | os.PathLike[str] | None = None,
        on_event: Callable[[ProgressEvent], object] | None = None,
        proxies: Mapping[str, str] | None = None,
        frontend_attrs: Mapping[str, str] | None = None,
        **keywords: Unpack[BuildKeywords],
    ) -> BuildResult:
        """Build and return the result. Cancelling this call cancels the daemon's build.

        Args:
            context: what ``COPY`` and ``ADD`` see: a directory, a git repository, the URL of an archive, ``-`` for an
                archive or a Dockerfile on standard input; or the bytes of one: a binary file, an iterator, or one of
                their asynchronous kinds.
            file: the Dockerfile; ``Dockerfile`` in the context by default. It may lie outside the context, or be
                ``-`` or a URL.
            on_event: called, and awaited if it is a coroutine function, with every progress event.
            proxies: build arguments for proxies that ``build_args`` does not name.
            frontend_attrs: further attributes of the frontend, passed as they are.
            keywords: all else: see :class:`~buildkit_session.request.keywords.BuildKeywords`.

        Raises:
            InputError: an argument or a file cannot be used; nothing was sent.
            UnsupportedError: this daemon or this version of the library cannot do what was asked.
            BuildError: the build ran and failed; names the failing step, the end of its log and the place in the
                Dockerfile.
            TransferError: files could not be sent or written.
            RemoteProtocolError: the daemon sent something that is not what a daemon sends.
            EngineError, ConnectionClosed: the daemon refused, or went away.
        """
        started = self.start(context, file=file, proxies=proxies, frontend_attrs=frontend_attrs, **keywords)
        async with started as build:
            async for event in build:
                if on_event is not None and isawaitable(outcome := on_event(event)):
                    await outcome
            return await build.result()

    @asynccontextmanager
    async def start(
        self,
        context: ContextLike = ".",
        *,
        file: str | os.PathLike[str] | None = None,
        proxies: Mapping[str, str] | None = None,
        frontend_attrs: Mapping[str, str] | None = None,
        **keywords: Unpack[BuildKeywords],
    ) -> AsyncIterator[Build]:
        """Start a build and follow it; arguments and errors as for :meth:`build`.

        .. code-block:: python

            async with client.start(".", outputs=["out"]) as build:
                async for event in build:
                    ...
                result = await build.result()

        Leaving the block before the build has ended cancels the daemon's build.
        """
        request = BuildRequest.of(**keywords)
        await to_thread.run_sync(request.check)
        info = await self.info()
        async with prepared(context, file, request.build_contexts, fetch=self._fetch) as inputs:
            run = _Run(
                self._daemon,
                info,
                request,
                inputs,
                credentials=self._credentials,
                proxies=proxies or {},
                frontend_attrs=frontend_attrs or {},
            )
            async with run.started() as build:
                yield build

    async def disk_usage(self, filters: Iterable[str] = ()) -> list[CacheRecord]:
        """Return what the daemon's build cache holds, the smallest record first.

        Args:
            filters: as for ``docker buildx du``, such as ``type=regular`` or ``until=24h``; all of them must hold.

        Raises:
            InputError: a filter is malformed.
            UnsupportedError: the daemon's BuildKit cannot be reached but through ``POST /build``.
        """
        from buildkit_session.engine.cache_records import read_cache_filters  # noqa: PLC0415 - few programs ask
        from buildkit_session.engine.cache_usage import disk_usage  # noqa: PLC0415 - as above

        meant = read_cache_filters(filters)
        async with self._daemon.link() as link:
            return await disk_usage(link.control, meant)

    async def prune(
        self,
        *,
        all: bool = False,  # noqa: A002 - the name that it has everywhere
        filters: Iterable[str] = (),
        keep_duration: timedelta | None = None,
        reserved_space: int | None = None,
        max_used_space: int | None = None,
        min_free_space: int | None = None,
        on_record: Callable[[CacheRecord], object] | None = None,
    ) -> list[CacheRecord]:
        """Remove from the daemon's build cache what no build holds, and return what has gone.

        Cancelling this call ends it in the daemon too; what has gone by then is gone.

        Args:
            all: remove frontends, and what only the daemon itself uses, as well.
            filters: what may go; as for :meth:`disk_usage`.
            keep_duration: keep what was used within it; the same as the filter ``until=``.
            reserved_space: bytes that are kept in any case.
            max_used_space: bytes that may stay.
            min_free_space: bytes that shall be free on the disk afterwards.
            on_record: called with each record as it goes.

        Raises:
            InputError: an argument cannot be used.
            UnsupportedError: the daemon is too old for one of the last two limits, or has no BuildKit to be reached.
        """
        from buildkit_session.engine.cache_records import read_cache_filters  # noqa: PLC0415 - as above
        from buildkit_session.engine.cache_usage import PruneLimits, prune, with_keep_duration  # noqa: PLC0415

        meant = with_keep_duration(read_cache_filters(filters), keep_duration)
        limits = PruneLimits(reserved_space or 0, max_used_space or 0, min_free_space or 0)
        async with self._daemon.link() as link:
            return await prune(link, meant, limits, everything=all, on_record=on_record)

    async def history(
        self, *, active_only: bool = False, filters: Iterable[str] = (), limit: int | None = None
    ) -> list[BuildRecord]:
        """Return the builds that the daemon remembers and those that run, the newest first.

        Args:
            active_only: only those that run.
            filters: as for ``docker buildx history ls``: ``status=error``, ``ref=...``, ``repository=...``,
                ``startedAt>24h``, ``completedAt<...``, ``duration>=90s``; all of them must hold.
            limit: how many at most.

        Raises:
            InputError: a filter is malformed.
            UnsupportedError: the daemon keeps no history.
        """
        return list((await self._history().read(active_only=active_only, filters=filters, limit=limit)).records)

    @asynccontextmanager
    async def history_logs(self, ref: str) -> AsyncIterator[AsyncIterator[ProgressEvent]]:
        """Replay the progress of a build that has ended, or follow one that runs, to its end.

        .. code-block:: python

            async with client.history_logs(ref) as events:
                async for event in events:
                    ...

        How the build ended is not said here: see :attr:`BuildRecord.error`.

        Args:
            ref: the id of the build: :attr:`BuildRecord.ref`.

        Raises:
            InputError: the daemon remembers no such build.
            UnsupportedError: the daemon keeps no history.
        """
        async with self._history().replay(ref) as events:
            yield events

    async def remove_history(self, *refs: str) -> None:
        """Let the daemon forget builds that have ended; what they made stays.

        Raises:
            InputError: it does not remember one of them; the others are forgotten.
            UnsupportedError: the daemon keeps no history.
        """
        await self._history().remove(refs)

    async def pin_history(self, ref: str, *, pinned: bool = True) -> None:
        """Let the daemon keep a build when it forgets others, or with ``pinned=False`` no longer.

        Raises:
            InputError: it does not remember such a build.
            UnsupportedError: the daemon keeps no history.
        """
        await self._history().pin(ref, pinned=pinned)

    def _history(self) -> History:
        from buildkit_session.engine.history import History  # noqa: PLC0415 - few programs ask

        return History(self._daemon)

    async def _fetch(self, url: str) -> bytes:
        raise UnsupportedError(f"a Dockerfile at a URL is not supported yet: fetch {url} and pass it with -f -")


class _Run:
    """One build, from its checked arguments to its end."""

    def __init__(
        self,
        daemon: Daemon,
        info: DaemonInfo,
        request: BuildRequest,
        inputs: Inputs,
        *,
        credentials: CredentialSource | None,
        proxies: Mapping[str, str],
        frontend_attrs: Mapping[str, str],
    ) -> None:
        self._daemon = daemon
        self._info = info
        self._request = request
        self._inputs = inputs
        self._credentials = credentials
        self._proxies = proxies
        self._frontend_attrs = frontend_attrs
        chosen = request.outputs or default_outputs(docker_driver=info.is_engine, environ=os.environ)
        self._outputs = sent(chosen)
        self._targets = {number: made for number, out in enumerate(self._outputs) if (made := _target(out, info))}

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Build]:
        with open_directories(self._inputs.directories) as directories:
            self._shared = FileSync(directories)
            try:
                runs = self._on_engine() if self._info.way == "build" else self._on_buildkit()
                async with runs as build:
                    try:
                        yield build
                    finally:
                        build.leave()
            finally:
                with anyio.CancelScope(shield=True):
                    for made in self._targets.values():
                        await made.abandon()

    @asynccontextmanager
    async def _on_buildkit(self) -> AsyncIterator[Build]:
        """Run it through BuildKit's own API."""
        # Here, not above: the messages of the API take time to load.
        from buildkit_session.engine.solving import solving  # noqa: PLC0415
        from buildkit_session.solve_request import make_ref, make_solve_request, require_support  # noqa: PLC0415

        require_support(self._request, self._outputs, self._info)
        stores = await self._stores()
        session = self._session(stores)
        ref = make_ref()
        solve = make_solve_request(
            self._request,
            self._inputs,
            self._outputs,
            ref=ref,
            session=session.id,
            daemon=self._info,
            environ=os.environ,
            cache_from=stores.cache_from if stores else self._request.cache_from,
            proxies=self._proxies,
            attrs=self._frontend_attrs,
        )
        async with (
            self._daemon.link() as link,
            session.serving(link.dial_session) as connection,
            solving(link.control, solve) as stream,
        ):
            yield self._build(
                stream,
                session,
                connection,
                ref=ref,
                finish=stores.finish if stores else None,
                warnings=stores.warnings if stores else (),
            )

    @asynccontextmanager
    async def _on_engine(self) -> AsyncIterator[Build]:
        """Run it through the Engine's own endpoint."""
        from buildkit_session.engine.client import EngineClient  # noqa: PLC0415 - few builds take this way
        from buildkit_session.engine_request import make_build_params  # noqa: PLC0415

        session = self._session(None)
        params = make_build_params(
            self._request, self._inputs, self._outputs, build_id=secrets.token_hex(16), session=session.id
        )
        async with AsyncExitStack() as stack:
            engine: EngineClient = await stack.enter_async_context(
                EngineClient(self._daemon.endpoint, info=self._info.engine)
            )
            connection = await stack.enter_async_context(session.serving(await self._dial_by(engine)))
            lifeline = Lifeline(connection)
            with lifeline.waiting():
                stream = await stack.enter_async_context(engine.build(params))
            yield self._build(stream, session, connection, lifeline=lifeline)

    async def _dial_by(
        self, engine: EngineClient
    ) -> Callable[[list[tuple[str, str]], Callable[[], Connection]], Awaitable[Connection]]:
        path = await engine.path("/session")

        async def dial(headers: list[tuple[str, str]], make_connection: Callable[[], Connection]) -> Connection:
            return await hijack(self._daemon.endpoint, path, headers, make_connection)

        return dial

    def _build(
        self, stream: Any, session: Session, connection: Connection, *, lifeline: Lifeline | None = None, **more: Any
    ) -> Build:
        return Build(
            stream,
            session,
            lifeline or Lifeline(connection),
            self._outputs,
            self._targets.values(),
            explain=self._shared.explain,
            **more,
        )

    async def _stores(self) -> ContentStores | None:
        """Look at the layouts on disk that the build uses, if there are any."""
        entries = (*self._request.cache_from, *self._request.cache_to)
        if not any(entry.type == "local" for entry in entries) and all(
            getattr(out, "tar", True) for out in self._outputs
        ):
            return None
        from buildkit_session.content_stores import ContentStores  # noqa: PLC0415 - few builds use any

        return await to_thread.run_sync(ContentStores, self._request.cache_from, self._request.cache_to, self._outputs)

    def _session(self, stores: ContentStores | None) -> Session:
        directory = self._inputs.directory
        return Session(
            [*self._services(), *_content({**self._inputs.layouts, **(stores.stores if stores else {})})],
            shared_key=shared_key(directory) if directory is not None else secrets.token_hex(16),
            name=self._inputs.name,
        )

    def _services(self) -> list[Service]:
        """What the daemon may ask for; nothing that the build has no use for."""
        services: list[Service] = [self._shared] if self._inputs.directories else []
        if self._targets:
            services.append(FileSend(self._targets))
        if self._request.secrets:
            from buildkit_session.services.secrets import Secrets  # noqa: PLC0415 - few builds have any

            services.append(Secrets(self._request.secrets))
        if self._credentials is not None:
            from buildkit_session.services.auth import Auth  # noqa: PLC0415 - as above

            services.append(Auth(self._credentials))
        if self._inputs.upload is not None:
            services.append(self._inputs.upload)
        return services


def connect(
    address: str | None = None,
    *,
    credentials: Mapping[str, tuple[str, str]] | CredentialSource | None = None,
    way: Way | None = None,
) -> Client:
    """Find a daemon; use the result with ``async with``.

    Args:
        address: ``unix:///path``, ``tcp://host:port`` or ``host:port`` of a Docker Engine or a buildkitd. By default
            what the docker CLI would use: ``DOCKER_HOST``, the current docker context, then the default and rootless
            sockets.
        credentials: of registries that builds may use: ``{"ghcr.io": ("user", "token")}``, or something that looks for
            them, such as :func:`buildkit_session.docker_config`. The daemon is told those that it asks for.
        way: how builds are run there, if not the best way that works: ``http2``, ``hijack`` or ``direct`` for
            BuildKit's own API, ``build`` for the Engine's endpoint ``POST /build``, which can do less.

    Raises:
        InputError: the address, or a docker context, cannot be used.
        EngineUnreachable: (on entering) nobody answers there.
        UnsupportedError: (on entering) what answers has no BuildKit, or not on this way.
    """
    return _client(find_endpoint(address), credentials, way)


def _client(
    endpoint: Endpoint, credentials: Mapping[str, tuple[str, str]] | CredentialSource | None, way: Way | None
) -> Client:
    return Client(Daemon(endpoint, way=way), credentials=_credential_source(credentials))


def _credential_source(given: Mapping[str, tuple[str, str]] | CredentialSource | None) -> CredentialSource | None:
    if given is None or not isinstance(given, Mapping):
        return given
    from buildkit_session.services.auth import Credentials, StaticCredentials  # noqa: PLC0415 - few programs have any

    try:
        return StaticCredentials({host: Credentials(*pair) for host, pair in given.items()})
    except TypeError:
        raise InputError("credentials must be a mapping such as {'ghcr.io': ('user', 'token')}") from None


def _content(stores: Mapping[str, Any]) -> list[Service]:
    if not stores:
        return []
    from buildkit_session.services.content import Content  # noqa: PLC0415 - few builds have any

    return [Content(stores)]


def _target(out: Output, info: DaemonInfo) -> Target | None:
    if isinstance(out, output.ImageOutput | output.CustomOutput | output.CacheOnlyOutput):
        return None
    if isinstance(out, output.OciOutput | output.DockerOutput):
        return _image_target(out, info)
    # Here, not above: a build that exports nothing does without what writes exports, a tenth of all there is to load.
    from buildkit_session.services import targets  # noqa: PLC0415

    if isinstance(out, output.LocalOutput):
        return targets.DirectoryTarget(out.dest, out.receive_options, mode=out.mode)
    if isinstance(out, output.ListingOutput):
        return targets.ListingTarget(out.receive_options)
    return _file_target(out)


def _image_target(out: output.OciOutput | output.DockerOutput, info: DaemonInfo) -> Target | None:
    if not out.tar:
        return None  # the content store takes it
    if isinstance(out, output.DockerOutput) and out.loads:
        if info.is_engine and out.context is None:
            return None  # it is in the Engine's store then
        raise UnsupportedError(
            "loading the image into another Engine is not supported yet; export it: type=docker,dest="
        )
    return _file_target(out)


def _file_target(out: output.TarOutput | output.OciOutput | output.DockerOutput) -> Target:
    from buildkit_session.services import targets  # noqa: PLC0415 - as above

    if isinstance(out.dest, Path):
        return targets.FileTarget(out.dest, out.limits)
    dest: Any = sys.stdout.buffer if out.to_stdout else out.dest
    return targets.StreamTarget(dest, out.limits)
