"""Images of a build that an Engine must be told of: loaded into one that did not build them, or pushed by the builder.

An Engine keeps its images by itself, and BuildKit pushes those that it has. What is left is here: another Engine gets
an image as an archive while the build exports it, and an Engine with its classic image store pushes after the build.

Source: docker/buildx:build/opt.go (toSolveOpt), build/build.go.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyio import to_thread

from buildkit_session.engine.contexts import current_context, find_context, find_endpoint
from buildkit_session.engine.metadata_file import CONFIG_DIGEST, DIGEST
from buildkit_session.output import DockerOutput, ImageOutput, OciOutput
from buildkit_session.request.outputs import loads_elsewhere, pushes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from buildkit_session.engine.address import Endpoint
    from buildkit_session.engine.client import EngineClient
    from buildkit_session.engine.daemon import DaemonInfo
    from buildkit_session.engine.image_load import ImageLoader
    from buildkit_session.engine.own_step import Tell
    from buildkit_session.engine.solving import Afterwards
    from buildkit_session.output import Output
    from buildkit_session.services.credentials import CredentialSource

__all__ = ["ImageDelivery", "image_delivery"]


@dataclass(slots=True)
class ImageDelivery:
    """What has been arranged for the images of one build.

    Attributes:
        outputs: as the daemon is to be asked for them.
        loaders: by the number of the output.
        afterwards: what is left to do when the daemon has done its part.
    """

    outputs: tuple[Output, ...]
    loaders: dict[int, ImageLoader] = field(default_factory=dict)
    afterwards: Afterwards | None = None


@asynccontextmanager
async def image_delivery(
    outputs: tuple[Output, ...],
    endpoint: Endpoint,
    info: DaemonInfo,
    *,
    credentials: CredentialSource | None,
    tell: Tell,
) -> AsyncIterator[ImageDelivery]:
    """Arrange for the images of a build; lasts as long as the build.

    Args:
        outputs: that the daemon is told of.
        endpoint: of the daemon.
        info: about the daemon.
        credentials: of registries.
        tell: gets the progress.

    Raises:
        InputError: a docker context that shall load an image cannot be used.
        EngineError: an Engine that shall load one does not answer as an Engine.
    """
    async with AsyncExitStack() as stack:
        delivery = ImageDelivery(outputs)
        for number, out in enumerate(outputs):
            if isinstance(out, DockerOutput) and loads_elsewhere(out, docker_driver=info.is_engine):
                await _arrange_load(delivery, number, out, tell, stack)
        names = _to_push(outputs) if info.is_engine and not info.has_containerd_store else []
        if names:
            engine = await _entered(endpoint, stack)
            delivery.afterwards = _Pushes(engine, names, credentials, tell)
        yield delivery


async def _arrange_load(
    delivery: ImageDelivery, number: int, out: DockerOutput, tell: Tell, stack: AsyncExitStack
) -> None:
    from buildkit_session.engine.image_load import ImageLoader  # noqa: PLC0415 - few builds load anything

    endpoint = await to_thread.run_sync(_loading_endpoint, out.context)
    loader = delivery.loaders[number] = ImageLoader(await _entered(endpoint, stack), tell)
    if await loader.takes_layouts():
        # These images are known by the digest of their manifest or index, which an archive for "docker load" lacks.
        layout = OciOutput(attrs={**out.attrs, "prefer-image-digest": "true"})
        delivery.outputs = (*delivery.outputs[:number], layout, *delivery.outputs[number + 1 :])
        delivery.afterwards = _without_config


async def _entered(endpoint: Endpoint, stack: AsyncExitStack) -> EngineClient:
    from buildkit_session.engine.client import EngineClient  # noqa: PLC0415 - as above

    engine = await stack.enter_async_context(EngineClient(endpoint))
    await engine.ping()
    return engine


def _loading_endpoint(context: str | None) -> Endpoint:
    """Where ``docker`` would find the Engine; ``DOCKER_HOST`` is of the default context."""
    return find_endpoint() if context is None or context == current_context() else find_context(context)


def _to_push(outputs: Sequence[Output]) -> list[list[str]]:
    return [
        [name for name in out.exporter[1].get("name", "").split(",") if name]
        for out in outputs
        if isinstance(out, ImageOutput) and pushes(out)
    ]


@dataclass(frozen=True, slots=True)
class _Pushes:
    """Pushes all that is to be pushed, after a build."""

    engine: EngineClient
    names: list[list[str]]  # of each image
    credentials: CredentialSource | None
    tell: Tell

    async def __call__(self, response: Mapping[str, str]) -> Mapping[str, str]:
        from buildkit_session.engine.image_push import push_image, pushed_digest  # noqa: PLC0415 - few builds push

        for names in self.names:
            for name in names:
                await push_image(self.engine, name, self.credentials, self.tell)
            if digest := await pushed_digest(self.engine, names[0], self.credentials):
                response = _with_digest(response, digest)
        return response


async def _without_config(response: Mapping[str, str]) -> Mapping[str, str]:
    return {key: value for key, value in response.items() if key != CONFIG_DIGEST}


def _with_digest(response: Mapping[str, str], digest: str) -> Mapping[str, str]:
    """Name the digest in the registry in place of that in the store, which is the image's id."""
    kept = {CONFIG_DIGEST: response[DIGEST]} if DIGEST in response else {}
    return {**kept, **response, DIGEST: digest}
