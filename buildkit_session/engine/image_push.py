"""An image that an Engine pushes after the build: with its classic image store, BuildKit has no image to push.

Source: docker/buildx:build/build.go (pushWithMoby, remoteDigestWithMoby);
moby/moby:api/server/router/image/image_routes.go (postImagesPush), api/types/registry/authconfig.go.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_session.engine.json_stream import read_objects
from buildkit_session.engine.json_values import as_list, as_object, as_text
from buildkit_session.engine.own_step import own_step
from buildkit_session.engine.progress import failure_of
from buildkit_session.errors import EngineError, SessionError
from buildkit_session.services.credentials import HUB, registry_host

if TYPE_CHECKING:
    from buildkit_session.engine.client import EngineClient
    from buildkit_session.engine.own_step import OwnStep, Tell
    from buildkit_session.services.credentials import CredentialSource

__all__ = ["ImageName", "push_image", "pushed_digest"]

_HUB: Final = "docker.io"
_HUB_SERVER: Final = "https://index.docker.io/v1/"
_PUSHED: Final = frozenset({"Pushed", "Layer already exists"})
_REFUSED: Final = ("unauthorized", "denied", "authentication required", "no basic auth")


@dataclass(frozen=True, slots=True)
class ImageName:
    """The name of an image, taken apart.

    Attributes:
        repository: all but the tag.
        tag: ``latest`` where none is given.
        registry: the host it begins with, or Docker Hub.
    """

    repository: str
    tag: str
    registry: str

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Take ``[HOST[:PORT]/]NAME[:TAG]``."""
        head, slash, last = text.rpartition("/")
        name, _, tag = last.partition(":")
        first = text.partition("/")[0]
        is_host = "/" in text and (first == "localhost" or "." in first or ":" in first)
        return cls(f"{head}{slash}{name}", tag or "latest", first if is_host else _HUB)


async def push_image(engine: EngineClient, name: str, credentials: CredentialSource | None, tell: Tell) -> None:
    """Push an image that the Engine has; a step ``pushing NAME with docker`` tells of it.

    Args:
        engine: entered.
        name: of the image.
        credentials: are asked for the registry's.
        tell: gets the progress.

    Raises:
        EngineError: the Engine or the registry refused.
        SessionError: the credentials cannot be had, or the connection broke off.
    """
    image = ImageName.parse(name)
    async with own_step(f"pushing {name} with docker", tell) as step:
        await _push(engine, image, await _authorization(image, credentials), step)


async def pushed_digest(engine: EngineClient, name: str, credentials: CredentialSource | None) -> str:
    """Ask for the digest under which a registry has an image that was pushed; empty if it cannot be had."""
    image = ImageName.parse(name)
    full = f"{image.repository}:{image.tag}"
    try:
        if not as_list((await engine.get(f"/images/{full}/json")).get("RepoDigests")):
            return ""
        headers = await _authorization(image, credentials)
        found = await engine.get(f"/distribution/{full}/json", headers=headers)
        return as_text(as_object(found.get("Descriptor")).get("digest"))
    except (SessionError, TypeError):
        return ""


async def _push(engine: EngineClient, image: ImageName, headers: dict[str, str], step: OwnStep) -> None:
    answer = await engine.send("POST", f"/images/{image.repository}/push", {"tag": image.tag}, headers=headers)
    with closing(answer):
        if answer.status != 200:
            raise await answer.refusal()

        async def take(entry: dict[str, object]) -> None:
            if (text := failure_of(entry)) is not None:
                raise _refused(engine, image, text)
            await step.report(entry, verb="pushing layer", done=_PUSHED)

        await read_objects(answer, take)


def _refused(engine: EngineClient, image: ImageName, text: str) -> EngineError:
    advice = ""
    if any(word in text.lower() for word in _REFUSED):
        advice = f"; log in with 'docker login {image.registry}', or pass credentials= to connect()"
    return EngineError(f"the Engine at {engine.endpoint} cannot push {image.repository}:{image.tag}: {text}{advice}")


async def _authorization(image: ImageName, credentials: CredentialSource | None) -> dict[str, str]:
    """The header field that carries the credentials; old Engines want one even where there are none."""
    host = registry_host(image.registry)
    found = await credentials.find(host) if credentials is not None else None
    config = {}
    if found is not None:
        fields = {
            "username": found.username,
            "password": found.password,
            "identitytoken": found.identity_token,
            "registrytoken": found.registry_token,
            "serveraddress": _HUB_SERVER if host == HUB else host,
        }
        config = {key: value for key, value in fields.items() if value}
    return {"X-Registry-Auth": urlsafe_b64encode(json.dumps(config).encode()).decode("ascii")}
