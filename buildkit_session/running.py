"""One build, from its checked arguments to its end: its session is served, the daemon is asked, the result awaited.

There are two ways to ask: BuildKit's own API and, where that cannot be had, the Engine's endpoint ``POST /build``.
"""

from __future__ import annotations

import os
import secrets
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from buildkit_session.build import Build, Lifeline
from buildkit_session.context import open_directories
from buildkit_session.export_targets import make_targets
from buildkit_session.offer import make_session
from buildkit_session.output import DockerOutput, OciOutput
from buildkit_session.request.outputs import default_outputs, sent, with_tags
from buildkit_session.services.filesync import FileSync
from buildkit_session.ssh_agents import running_agents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from buildkit_session.build import Target
    from buildkit_session.chosen_outputs import ChosenOutputs
    from buildkit_session.content_stores import ContentStores
    from buildkit_session.engine.capabilities import Feature
    from buildkit_session.engine.daemon import Daemon, DaemonInfo, Link
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.engine.question import Question
    from buildkit_session.engine.solving import SolveStream
    from buildkit_session.image_delivery import ImageDelivery
    from buildkit_session.inputs import Inputs
    from buildkit_session.messages.moby.buildkit.v1 import SolveRequest
    from buildkit_session.output import Output
    from buildkit_session.request.build_request import BuildRequest
    from buildkit_session.services.auth import Auth
    from buildkit_session.services.raw_socket import RawSocket
    from buildkit_session.services.ssh import Agent
    from buildkit_session.session import Session

__all__ = ["Run"]


class Run:
    """One build that is about to run.

    Args:
        daemon: that shall run it.
        info: about the daemon.
        request: what is asked for, checked.
        inputs: of the build.
        auth: answers for registries.
        proxies: build arguments for proxies.
        frontend_attrs: further attributes of the frontend.
        question: what the frontend is asked in place of a build.
    """

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
        chooses = request.session_exporter is not None  # which takes the place of the default
        default = () if chooses else default_outputs(docker_driver=info.is_engine, environ=os.environ)
        self._outputs = sent(request.outputs or with_tags(default, request.tags))
        # Set while it runs.
        self._shared: FileSync
        self._agents: Mapping[str, Agent | RawSocket]
        self._targets: dict[int, Target] = {}
        self._stream: SolveStream

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Build]:
        """Start it. Leaving the block before it has ended cancels it in the daemon and abandons its exports."""
        with ExitStack() as stack:
            opened = open_directories(self._inputs.directories)
            directories = await to_thread.run_sync(stack.enter_context, opened)  # they may be on a slow network
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
        from buildkit_session.engine.solving import solving  # noqa: PLC0415 - see above
        from buildkit_session.solve_request import require_support  # noqa: PLC0415 - see above

        require_support(self._request, self._outputs, self._info)
        stores = await self._stores()
        async with self._images() as images:
            self._targets = make_targets(self._outputs, images.loaders)
            chosen = self._chosen_outputs(images)
            session = self._session(stores, chosen)
            solve = self._solve_request(images.outputs, session, stores)
            async with self._daemon.link() as link, session.serving(link.dial_session) as connection:
                await self._require_capabilities(link)
                asked = self._question.put(link, solve) if self._question else None
                afterwards = chosen.afterwards if chosen else images.afterwards
                async with asked or solving(link.control, solve, afterwards=afterwards) as self._stream:
                    yield Build(
                        self._stream,
                        session,
                        Lifeline(connection, self._info.address),
                        chosen.outputs if chosen else self._outputs,
                        self._targets.values(),
                        ref=solve.ref,
                        explain=self._shared.explain,
                        finish=stores.finish if stores else None,
                        warnings=(*self._warnings(), *(stores.warnings if stores else ())),
                    )

    def _chosen_outputs(self, images: ImageDelivery) -> ChosenOutputs | None:
        if self._request.session_exporter is None:
            return None
        from buildkit_session.chosen_outputs import ChosenOutputs  # noqa: PLC0415 - few builds choose as they run

        return ChosenOutputs(
            self._request.session_exporter,
            self._request,
            self._info,
            outputs=self._outputs,
            targets=self._targets,
            afterwards=images.afterwards,
        )

    def _solve_request(self, outputs: Sequence[Output], session: Session, stores: ContentStores | None) -> SolveRequest:
        from buildkit_session.solve_request import make_ref, make_solve_request  # noqa: PLC0415 - as above

        return make_solve_request(
            self._request,
            self._inputs,
            outputs,
            ref=make_ref(),
            session=session.id,
            daemon=self._info,
            environ=os.environ,
            cache_from=stores.cache_from if stores else self._request.cache_from,
            proxies=self._proxies,
            attrs=self._frontend_attrs,
        )

    @asynccontextmanager
    async def _on_engine(self) -> AsyncIterator[Build]:
        """Run it through the Engine's own endpoint."""
        from buildkit_session.engine.client import EngineClient  # noqa: PLC0415 - few builds take this way
        from buildkit_session.engine_request import make_build_params  # noqa: PLC0415 - likewise

        self._targets = make_targets(self._outputs, {})
        session = self._session(None)
        params = make_build_params(
            self._request,
            self._inputs,
            self._outputs,
            build_id=secrets.token_hex(16),
            session=session.id,
            engine=self._info.engine,
        )
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(EngineClient(self._daemon.endpoint, info=self._info.engine))
            connection = await stack.enter_async_context(session.serving(engine.dial_session))
            lifeline = Lifeline(connection, self._info.address)
            with lifeline.waiting():
                stream = await stack.enter_async_context(engine.build(params))
            yield Build(
                stream,
                session,
                lifeline,
                self._outputs,
                self._targets.values(),
                explain=self._shared.explain,
                warnings=self._warnings(),
            )

    def _session(self, stores: ContentStores | None, chosen: ChosenOutputs | None = None) -> Session:
        return make_session(
            self._request,
            self._inputs,
            shared=self._shared,
            targets=self._targets,
            auth=self._auth,
            agents=self._agents,
            stores=stores,
            exporter=chosen.service if chosen else None,
        )

    async def _stores(self) -> ContentStores | None:
        """Look at the layouts on disk that the build uses, if there are any."""
        caches = any(entry.type == "local" for entry in (*self._request.cache_from, *self._request.cache_to))
        exports = any(isinstance(out, OciOutput | DockerOutput) and not out.tar for out in self._outputs)
        if not caches and not exports:
            return None
        from buildkit_session.content_stores import ContentStores  # noqa: PLC0415 - few builds use any

        return await to_thread.run_sync(ContentStores, self._request.cache_from, self._request.cache_to, self._outputs)

    def _images(self) -> AbstractAsyncContextManager[ImageDelivery]:
        from buildkit_session.image_delivery import image_delivery  # noqa: PLC0415 - needs the API's ways too

        return image_delivery(self._outputs, self._daemon.endpoint, self._info, credentials=self._auth, tell=self._tell)

    async def _tell(self, events: Sequence[ProgressEvent]) -> None:
        await self._stream.tell(events)

    async def _require_capabilities(self, link: Link) -> None:
        """Refuse what the daemon would ignore without a word."""
        request, runs_steps = self._request, self._question is None
        asked: dict[Feature, object] = {
            "several_outputs": len(self._outputs) > 1,
            "source_policy": request.source_policy is not None,
            "policy_function": request.policy_verifier is not None,
            "session_exporter": request.session_exporter is not None,
            "ulimits": runs_steps and request.ulimits,
            "shm_size": runs_steps and request.shm_size,
            "cgroup_parent": runs_steps and request.cgroup_parent,
        }
        if needed := [feature for feature, wanted in asked.items() if wanted]:
            from buildkit_session.engine.capabilities import require  # noqa: PLC0415 - few builds need any

            await require(link, needed, address=self._info.address)

    def _warnings(self) -> Iterator[str]:
        if self._request.outputs or self._question is not None or self._request.session_exporter is not None:
            return
        if not self._outputs:
            yield (
                "No output specified, so the result stays in the daemon's cache alone; "
                "ask for one by --output, --push or --load (outputs=, push=True, load=True)"
            )
        elif self._request.annotations:
            yield (
                "Annotations are for outputs that are named, so the image has none; "
                "add --output type=image, --push or --load (outputs=, push=True, load=True)"
            )
