"""The public API: connect to a daemon, run builds, follow them."""

from __future__ import annotations

import os
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Self, Unpack

import anyio
from anyio import to_thread

from buildkit_session import output
from buildkit_session.build import Build, BuildResult, Lifeline
from buildkit_session.context import open_directories
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.daemon import Daemon
from buildkit_session.engine.hijack import hijack
from buildkit_session.errors import InputError, LocalProtocolError
from buildkit_session.inputs import MAX_DOCKERFILE, prepared
from buildkit_session.offer import make_auth, make_session, make_targets, running_agents
from buildkit_session.request.build_request import BuildRequest
from buildkit_session.request.outputs import default_outputs, sent, with_tags
from buildkit_session.services.filesync import FileSync

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta
    from types import TracebackType

    from buildkit_session.answer import CallAnswer
    from buildkit_session.build import Target
    from buildkit_session.content_stores import ContentStores
    from buildkit_session.engine.address import Endpoint, TlsFiles
    from buildkit_session.engine.builders import Builder
    from buildkit_session.engine.cache_records import CacheRecord
    from buildkit_session.engine.client import EngineClient
    from buildkit_session.engine.daemon import DaemonInfo, Way
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.engine.history import History
    from buildkit_session.engine.history_values import BuildRecord
    from buildkit_session.engine.question import Question
    from buildkit_session.engine.solving import SolveStream
    from buildkit_session.engine.subrequest import Call
    from buildkit_session.http2.connection import Connection
    from buildkit_session.image_transport import ImageTransport
    from buildkit_session.inputs import ContextLike, Inputs
    from buildkit_session.offer import CredentialsLike
    from buildkit_session.request.keywords import BuildKeywords
    from buildkit_session.services.auth import Auth
    from buildkit_session.session import Session

__all__ = ["Client", "connect"]


class Client:
    """One daemon. Made by :func:`connect`; any number of builds may run at once."""

    def __init__(self, daemon: Daemon, *, credentials: CredentialsLike | None = None) -> None:
        self._daemon = daemon
        self._auth = make_auth(credentials)
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
        await self._daemon.aclose()

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
        run = self._run(context, file, request, proxies=proxies, frontend_attrs=frontend_attrs)
        async with run as build:
            yield build

    async def call(
        self,
        context: ContextLike = ".",
        *,
        call: str | Call,
        file: str | os.PathLike[str] | None = None,
        on_event: Callable[[ProgressEvent], object] | None = None,
        proxies: Mapping[str, str] | None = None,
        frontend_attrs: Mapping[str, str] | None = None,
        **keywords: Unpack[BuildKeywords],
    ) -> CallAnswer:
        """Ask the frontend something about a Dockerfile in place of a build.

        Args:
            context: as for :meth:`build`, and so are all others but ``call``. What concerns the result of a build,
                such as ``outputs`` and ``cache_to``, is left out of account.
            call: ``check``, ``outline``, ``targets``, or what else the frontend knows
                (``subrequests.describe`` tells), as for ``--call``.
            file: the Dockerfile.
            on_event: gets the progress.
            proxies: build arguments for proxies.
            frontend_attrs: further attributes of the frontend.
            keywords: all else.

        Raises:
            UnsupportedError: the frontend does not know this question, or knows none; or the way to the daemon is
                ``build``.
            SessionError: others, as for :meth:`build`; a Dockerfile that cannot be read is a ``BuildError``, except
                for ``check``, which reports it.
        """
        from buildkit_session.answer import call_answer  # noqa: PLC0415 - builds do without all of these
        from buildkit_session.engine.question import Question  # noqa: PLC0415
        from buildkit_session.engine.subrequest import dockerfile_name  # noqa: PLC0415

        request = replace(BuildRequest.of(call=call, **keywords), outputs=(output.cacheonly(),), cache_to=())
        if request.call is None:
            raise InputError(f"{call!r} asks for a build: use build(), or call='check', 'outline' or 'targets'")
        question = Question(request.call)
        run = self._run(context, file, request, proxies=proxies, frontend_attrs=frontend_attrs, question=question)
        async with run as build:
            async for event in build:
                if on_event is not None and isawaitable(outcome := on_event(event)):
                    await outcome
        where = os.fspath(context) if isinstance(context, str | os.PathLike) else ""
        filename = dockerfile_name("" if where == "-" else where, None if file is None else os.fspath(file))
        return call_answer(request.call, question.metadata, filename=filename)

    async def check(
        self,
        context: ContextLike = ".",
        *,
        file: str | os.PathLike[str] | None = None,
        **keywords: Unpack[BuildKeywords],
    ) -> CallAnswer:
        """Check a Dockerfile against the frontend's rules: :meth:`call` with ``call="check"``.

        What was found is in :attr:`CallAnswer.report <buildkit_session.answer.CallAnswer.report>`.
        """
        return await self.call(context, call="check", file=file, **keywords)

    async def provenance(self, ref: str) -> dict[str, dict[str, Any]]:
        """Return how a build came about, by platform; under ``""`` for a build for one.

        Args:
            ref: the build, from :attr:`BuildResult.ref`.

        Returns:
            The predicates of SLSA provenance that the daemon has recorded; none if it has not.

        Raises:
            UnsupportedError: the daemon keeps no history.
        """
        from buildkit_session.engine.provenance import read_provenance  # noqa: PLC0415 - few programs ask

        async with self._daemon.link() as link:
            return await read_provenance(link, ref)

    @asynccontextmanager
    async def _run(
        self,
        context: ContextLike,
        file: str | os.PathLike[str] | None,
        request: BuildRequest,
        *,
        proxies: Mapping[str, str] | None,
        frontend_attrs: Mapping[str, str] | None,
        question: Question | None = None,
    ) -> AsyncIterator[Build]:
        await to_thread.run_sync(request.check)
        info = await self.info()
        async with prepared(context, file, request.build_contexts, fetch=self._fetch) as inputs:
            run = _Run(
                self._daemon,
                info,
                request,
                inputs,
                auth=self._auth,
                proxies=proxies or {},
                frontend_attrs=frontend_attrs or {},
                question=question,
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
        """Let the daemon fetch a Dockerfile: it may be reached from there alone."""
        from buildkit_session.engine.fetching import fetch_file  # noqa: PLC0415 - few Dockerfiles are elsewhere

        async with self._daemon.link() as link:
            return await fetch_file(link, url, max_size=MAX_DOCKERFILE)


class _Run:
    """One build, from its checked arguments to its end."""

    def __init__(
        self,
        daemon: Daemon,
        info: DaemonInfo,
        request: BuildRequest,
        inputs: Inputs,
        *,
        auth: Auth | None,
        proxies: Mapping[str, str],
        frontend_attrs: Mapping[str, str],
        question: Question | None = None,
    ) -> None:
        self._daemon = daemon
        self._info = info
        self._request = request
        self._inputs = inputs
        self._auth = auth
        self._proxies = proxies
        self._frontend_attrs = frontend_attrs
        self._question = question
        default = with_tags(default_outputs(docker_driver=info.is_engine, environ=os.environ), request.tags)
        self._outputs = sent(request.outputs or default)
        self._targets: dict[int, Target] = {}
        self._stream: SolveStream

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Build]:
        with open_directories(self._inputs.directories) as directories:
            self._shared = FileSync(directories)
            agents = running_agents(self._request.ssh, over_ssh=self._inputs.over_ssh)
            try:
                by_engine = self._info.way == "build" and self._question is None
                runs = self._on_engine() if by_engine else self._on_buildkit()
                async with agents as self._agents, runs as build:
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
        ref = make_ref()
        async with self._images() as images:
            self._targets = make_targets(self._outputs, images.loaders)
            session = self._session(stores)
            solve = make_solve_request(
                self._request,
                self._inputs,
                images.outputs,
                ref=ref,
                session=session.id,
                daemon=self._info,
                environ=os.environ,
                cache_from=stores.cache_from if stores else self._request.cache_from,
                proxies=self._proxies,
                attrs=self._frontend_attrs,
            )
            async with self._daemon.link() as link, session.serving(link.dial_session) as connection:
                if len(self._outputs) > 1:
                    from buildkit_session.engine.capabilities import require_several_outputs  # noqa: PLC0415

                    await require_several_outputs(link, address=self._info.address)
                asked = self._question.put(link, solve) if self._question else None
                async with asked or solving(link.control, solve, afterwards=images.afterwards) as self._stream:
                    yield self._build(
                        self._stream,
                        session,
                        connection,
                        ref=ref,
                        finish=stores.finish if stores else None,
                        warnings=(*self._warnings(), *(stores.warnings if stores else ())),
                    )

    def _warnings(self) -> Iterator[str]:
        if not self._outputs and not self._request.outputs and self._question is None:
            yield (
                "No output specified, so the result stays in the daemon's cache alone; "
                "ask for one by --output, --push or --load (outputs=, push=True, load=True)"
            )

    def _images(self) -> AbstractAsyncContextManager[ImageTransport]:
        from buildkit_session.image_transport import image_transport  # noqa: PLC0415 - needs the API's ways too

        return image_transport(
            self._outputs, self._daemon.endpoint, self._info, credentials=self._auth, tell=self._tell
        )

    async def _tell(self, events: Sequence[ProgressEvent]) -> None:
        await self._stream.tell(events)

    @asynccontextmanager
    async def _on_engine(self) -> AsyncIterator[Build]:
        """Run it through the Engine's own endpoint."""
        from buildkit_session.engine.client import EngineClient  # noqa: PLC0415 - few builds take this way
        from buildkit_session.engine_request import make_build_params  # noqa: PLC0415

        self._targets = make_targets(self._outputs, {})
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
        return make_session(
            self._request,
            self._inputs,
            shared=self._shared,
            targets=self._targets,
            auth=self._auth,
            agents=self._agents,
            stores=stores,
        )


def connect(
    address: str | None = None,
    *,
    builder: str | Builder | None = None,
    tls: TlsFiles | None = None,
    credentials: CredentialsLike | None = None,
    way: Way | None = None,
) -> Client:
    """Find a daemon; use the result with ``async with``.

    Args:
        address: of a Docker Engine or a buildkitd: ``unix:///path``, ``tcp://host:port``, ``ssh://user@host``; of a
            buildkitd also ``docker-container://name`` and others, see
            :func:`~buildkit_session.engine.address.parse_address`. By default what the docker CLI would use:
            ``DOCKER_HOST``, the current docker context, then the default and rootless sockets.
        builder: a builder of ``docker buildx``, or its name, in place of an address; the first of its nodes is used.
        tls: the files for TLS at ``address``; by default what ``DOCKER_TLS_VERIFY`` and ``DOCKER_CERT_PATH`` say.
        credentials: of registries that builds may use: ``{"ghcr.io": ("user", "token")}``, or something that looks for
            them, such as ``DockerConfig()``, which knows what ``docker login`` has left.
        way: how builds are run there, if not the best way that works: ``http2``, ``hijack`` or ``direct`` for
            BuildKit's own API, ``build`` for the Engine's endpoint ``POST /build``, which can do less.

    Raises:
        InputError: the address, a docker context or a builder cannot be used.
        EngineUnreachable: (on entering) nobody answers there.
        UnsupportedError: (on entering) what answers has no BuildKit, or not on this way.
    """
    return Client(Daemon(_endpoint(address, builder, tls), way=way), credentials=credentials)


def _endpoint(address: str | None, builder: str | Builder | None, tls: TlsFiles | None) -> Endpoint:
    if builder is not None:
        if address is not None or tls is not None:
            raise InputError("builder names a daemon, and so do address and tls; give one of them")
        from buildkit_session.engine.builders import find_builder  # noqa: PLC0415 - few programs use one

        found = find_builder(builder) if isinstance(builder, str) else builder
        return found.nodes[0].endpoint
    return find_endpoint(address, tls=tls)
