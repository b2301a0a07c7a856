"""The public API: connect to a daemon, run builds, follow them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from anyio import to_thread

from buildkit_session import output
from buildkit_session.engine.address import TlsFiles
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.daemon import Daemon
from buildkit_session.errors import InputError, LocalProtocolError
from buildkit_session.inputs import MAX_DOCKERFILE, prepared
from buildkit_session.registry_auth import make_auth
from buildkit_session.request import arguments
from buildkit_session.request.build_request import BuildRequest
from buildkit_session.running import Run
from buildkit_session.wording import a_type, did_you_mean

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType

    from buildkit_session.answer import CallAnswer
    from buildkit_session.build import Build, BuildResult
    from buildkit_session.engine.address import Endpoint
    from buildkit_session.engine.builders import Builder
    from buildkit_session.engine.cache_records import CacheRecord
    from buildkit_session.engine.daemon import DaemonInfo, Way
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.engine.history import History
    from buildkit_session.engine.history_values import BuildRecord
    from buildkit_session.engine.question import Question
    from buildkit_session.engine.subrequest import Call
    from buildkit_session.grpc.interception import Interceptor
    from buildkit_session.inputs import ContextLike
    from buildkit_session.registry_auth import CredentialsLike
    from buildkit_session.request.keywords import BuildKeywords, RequestKeywords
    from buildkit_session.services import Service
    from buildkit_session.services.auth import Auth

__all__ = ["Client", "connect"]


class Client:
    """One daemon. Made by :func:`connect`; any number of builds may run at once.

    It works inside its ``async with`` block; outside of it every method raises ``LocalProtocolError``.
    """

    def __init__(
        self,
        daemon: Daemon,
        *,
        credentials: CredentialsLike | None = None,
        services: Sequence[Service] | Service = (),
        interceptors: Sequence[Interceptor] | Interceptor = (),
    ) -> None:
        self._daemon = daemon
        self._auth = make_auth(credentials)
        # As a build has them, so that they are read and refused alike.
        self._common = BuildRequest.of(services=services, interceptors=interceptors)
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
        """What the daemon is, and the way that was chosen to it; asked once.

        Raises:
            EngineUnreachable: nobody answers.
            EngineError: what answers is no daemon that is known.
            UnsupportedError: it has no BuildKit, or is too old, or has not the way that was asked for.
        """
        return await self._entered_daemon().info()

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
            keywords: all else; ``help(buildkit_session.BuildKeywords)`` explains them. They are ``tags``, ``target``,
                ``build_args``, ``build_contexts``, ``labels``, ``annotations``, ``attests``, ``sbom``, ``provenance``,
                ``add_hosts``, ``allow``, ``cache_from``, ``cache_to``, ``cgroup_parent``, ``network``, ``no_cache``,
                ``no_cache_filter``, ``platforms``, ``pull``, ``push``, ``load``, ``shm_size``, ``source_policy``,
                ``ulimits``, ``outputs``, ``session_exporter``, ``secrets``, ``ssh``, ``services``, ``interceptors`` and
                ``credentials``.

        Raises:
            InputError: an argument or a file cannot be used; nothing was sent. Or what a function of the caller's has
                returned while the build ran, or the function behind a secret has failed.
            UnsupportedError: this daemon or this version of the library cannot do what was asked.
            BuildError: the build ran and failed; names the failing step, the end of its log and the place in the
                Dockerfile.
            TransferError: files could not be sent or written.
            CallbackError: a function of the caller's, which decides about sources or outputs or finds credentials, has
                failed.
            RemoteProtocolError: the daemon sent something that is not what a daemon sends.
            EngineError, ConnectionClosed: the daemon refused, or went away.
        """
        arguments.callback("on_event", on_event)
        request, auth = _request("build", keywords), self._auth_for(keywords)
        run = self._run(context, file, request, auth, proxies=proxies, frontend_attrs=frontend_attrs)
        async with run as build:
            await _follow(build, on_event)
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
        request, auth = _request("start", keywords), self._auth_for(keywords)
        run = self._run(context, file, request, auth, proxies=proxies, frontend_attrs=frontend_attrs)
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
                (``help``, short for ``subrequests.describe``, tells), as for ``--call``.
            file: the Dockerfile.
            on_event: gets the progress.
            proxies: build arguments for proxies.
            frontend_attrs: further attributes of the frontend.
            keywords: all else, as for :meth:`build`.

        Raises:
            UnsupportedError: the frontend does not know this question, or knows none; or the way to the daemon is
                ``build``.
            SessionError: others, as for :meth:`build`; a Dockerfile that cannot be read is a ``BuildError``, except
                for ``check``, which reports it.
        """
        from buildkit_session.answer import call_answer  # noqa: PLC0415 - builds do without all of these
        from buildkit_session.engine.question import Question  # noqa: PLC0415
        from buildkit_session.engine.subrequest import dockerfile_name  # noqa: PLC0415

        arguments.callback("on_event", on_event)
        request = replace(
            _request("call", keywords, call=call), outputs=(output.cacheonly(),), session_exporter=None, cache_to=()
        )
        if request.call is None:
            raise InputError(f"{call!r} asks for a build: use build(), or call='check', 'outline' or 'targets'")
        question = Question(request.call)
        auth = self._auth_for(keywords)
        run = self._run(context, file, request, auth, proxies=proxies, frontend_attrs=frontend_attrs, question=question)
        async with run as build:
            await _follow(build, on_event)
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

        Raises: as :meth:`call`.
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

        async with self._entered_daemon().link() as link:
            return await read_provenance(link, ref)

    @asynccontextmanager
    async def _run(
        self,
        context: ContextLike,
        file: str | os.PathLike[str] | None,
        request: BuildRequest,
        auth: Auth | None,
        *,
        proxies: Mapping[str, str] | None,
        frontend_attrs: Mapping[str, str] | None,
        question: Question | None = None,
    ) -> AsyncIterator[Build]:
        _check_inputs(context, file)
        told = arguments.attributes("frontend_attrs", frontend_attrs)
        added = arguments.attributes("proxies", proxies)
        request = replace(
            request,
            services=self._common.services + request.services,
            interceptors=self._common.interceptors + request.interceptors,
        )
        await to_thread.run_sync(request.check)
        info = await self.info()
        fetch = partial(self._fetch, request.interceptors)
        async with prepared(context, file, request.build_contexts, fetch=fetch) as inputs:
            run = Run(
                self._entered_daemon(),
                info,
                request,
                inputs,
                auth=auth,
                proxies=added,
                frontend_attrs=told,
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

        meant = read_cache_filters(arguments.texts("filters", filters))
        async with self._entered_daemon().link() as link:
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

        meant = with_keep_duration(read_cache_filters(arguments.texts("filters", filters)), keep_duration)
        sizes = {"reserved_space": reserved_space, "max_used_space": max_used_space, "min_free_space": min_free_space}
        limits = PruneLimits(**{name: arguments.number(name, size) or 0 for name, size in sizes.items()})
        arguments.callback("on_record", on_record)
        async with self._entered_daemon().link() as link:
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
        arguments.number("limit", limit)
        texts = arguments.texts("filters", filters)
        return list((await self._history().read(active_only=active_only, filters=texts, limit=limit)).records)

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

        return History(self._entered_daemon())

    def _auth_for(self, keywords: BuildKeywords) -> Auth | None:
        """What answers for registries in one build."""
        return make_auth(keywords["credentials"]) if "credentials" in keywords else self._auth

    def _entered_daemon(self) -> Daemon:
        if not self._entered:
            raise LocalProtocolError("the client works only inside its 'async with' block")
        return self._daemon

    async def _fetch(self, interceptors: Iterable[Interceptor], url: str) -> bytes:
        """Let the daemon fetch a Dockerfile: it may be reached from there alone."""
        from buildkit_session.engine.fetching import fetch_file  # noqa: PLC0415 - few Dockerfiles are elsewhere

        async with self._entered_daemon().link() as link:
            return await fetch_file(link, url, max_size=MAX_DOCKERFILE, interceptors=interceptors)


def connect(
    address: str | None = None,
    *,
    builder: str | Builder | None = None,
    tls: TlsFiles | None = None,
    credentials: CredentialsLike | None = None,
    services: Sequence[Service] | Service = (),
    interceptors: Sequence[Interceptor] | Interceptor = (),
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
        credentials: of registries that builds may use: ``{"ghcr.io": ("user", "token")}``, with a pair,
            :class:`Credentials` or a function for each; or a :class:`CredentialSource`, which looks for them, such as
            ``DockerConfig()``, which knows what ``docker login`` has left; or one function for all hosts. A function,
            with ``async def`` or not, takes the host as it stands in the URL (``registry-1.docker.io`` for Docker Hub)
            and returns :class:`Credentials`, a pair, or ``None`` for none. It is called whenever the daemon asks, which
            is several times for one image, unless its answer holds until ``expires_at``; once at a time for one host,
            and for 50 seconds at most. Whoever controls the daemon can ask for any host: a function for all hosts must
            compare it exactly, and give each only what is meant for it. A build may have other credentials:
            ``build(credentials=...)``. By default there are none, and only public images can be had.
        services: gRPC services of your own, such as a :class:`Service`, that every build offers.
        interceptors: coroutine functions around every call that the daemon makes during builds, see
            :class:`Interceptor`, the outermost first.
        way: how builds are run there, if not the best way that works: ``http2``, ``hijack`` or ``direct`` for
            BuildKit's own API, ``build`` for the Engine's endpoint ``POST /build``, which can do less.

    Raises:
        InputError: the address, a docker context or a builder cannot be used.
        EngineUnreachable: (on entering) nobody answers there.
        UnsupportedError: (on entering) what answers has no BuildKit, or not on this way.
    """
    daemon = Daemon(_endpoint(address, builder, tls), way=way)
    return Client(daemon, credentials=credentials, services=services, interceptors=interceptors)


def _request(method: str, keywords: BuildKeywords, *, call: str | Call | None = None) -> BuildRequest:
    """Read the keyword arguments of a method of the client.

    Raises:
        TypeError: there is no such argument; names the one that is meant.
        InputError: one of them cannot be.
    """
    known = [name for name in BuildRequest.of.__kwdefaults__ or () if name != "call"]  # which is an argument of its own
    known.append("credentials")
    for name in keywords:
        if name not in known:
            meant = did_you_mean(name, [*known, "file", "on_event", "proxies", "frontend_attrs"])
            raise TypeError(f"Client.{method}() got an unexpected keyword argument {name!r}{meant}")
    # Credentials are no part of what the daemon is asked for.
    asked = cast("RequestKeywords", {name: value for name, value in keywords.items() if name != "credentials"})
    return BuildRequest.of(call=call, **asked)


def _check_inputs(context: object, file: object) -> None:
    if not isinstance(file, str | os.PathLike | None):
        raise InputError(f"file must be the path of a Dockerfile, not {a_type(file)}")
    if isinstance(context, str | os.PathLike | Iterable | AsyncIterable) or hasattr(context, "read"):
        return
    raise InputError(f"the context must be a path, a URL or a stream of bytes, not {a_type(context)}")


async def _follow(build: Build, on_event: Callable[[ProgressEvent], object] | None) -> None:
    async for event in build:
        if on_event is not None and isawaitable(outcome := on_event(event)):
            await outcome


def _endpoint(address: str | None, builder: str | Builder | None, tls: TlsFiles | None) -> Endpoint:
    if not isinstance(address, str | None):
        raise InputError(f"the address must be a text, such as unix:///var/run/docker.sock, not {a_type(address)}")
    if builder is not None:
        if address is not None or tls is not None:
            raise InputError("builder names a daemon, and so do address and tls; give one of them")
        from buildkit_session.engine.builders import Builder, find_builder  # noqa: PLC0415 - few programs use one

        found = find_builder(builder) if isinstance(builder, str) else builder
        if not isinstance(found, Builder):
            raise InputError(f"builder must be the name of a builder, or a Builder, not {a_type(found)}")
        return found.nodes[0].endpoint
    if not isinstance(tls, TlsFiles | None):
        raise InputError(f"tls must be TlsFiles, not {a_type(tls)}")
    return find_endpoint(address, tls=tls)
