"""What one build offers to the daemon that runs it: the services of its session, and places for its exports."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from buildkit_session import output
from buildkit_session.errors import InputError
from buildkit_session.session import Session, shared_key
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from buildkit_session.build import Target
    from buildkit_session.content_stores import ContentStores
    from buildkit_session.engine.image_load import ImageLoader
    from buildkit_session.inputs import Inputs
    from buildkit_session.output import Output
    from buildkit_session.request.build_request import BuildRequest
    from buildkit_session.request.ssh import SshSource
    from buildkit_session.services import Service
    from buildkit_session.services.auth import Auth
    from buildkit_session.services.credentials import Credentials, CredentialSource
    from buildkit_session.services.filesync import FileSync
    from buildkit_session.services.ssh import Agent
    from buildkit_session.services.tokens import Tokens

    CredentialsLike: TypeAlias = Mapping[str, tuple[str, str] | Credentials] | CredentialSource

__all__ = ["CredentialsLike", "make_auth", "make_session", "make_targets", "running_agents"]

_WANTED: Final = "credentials must be a mapping such as {'ghcr.io': ('user', 'token')}"


def make_targets(outputs: Sequence[Output], loaders: Mapping[int, ImageLoader]) -> dict[int, Target]:
    """Make what takes the exports, by the number of the output; those that stay in the daemon have nothing.

    Args:
        outputs: that the daemon is told of.
        loaders: for those that another Engine loads, by their number.
    """
    return {number: made for number, out in enumerate(outputs) if (made := _target(out, loaders.get(number)))}


def make_session(
    request: BuildRequest,
    inputs: Inputs,
    *,
    shared: FileSync,
    targets: Mapping[int, Target],
    auth: Auth | None,
    agents: Mapping[str, Agent],
    stores: ContentStores | None,
) -> Session:
    """Make the session of a build, with what the daemon may ask for; nothing that the build has no use for."""
    layouts = {**inputs.layouts, **(stores.stores if stores else {})}
    services: list[Service] = [shared] if inputs.directories else []
    if targets:
        from buildkit_session.services.filesend import FileSend  # noqa: PLC0415 - many builds export nothing

        services.append(FileSend(targets))
    if request.secrets:
        from buildkit_session.services.secrets import Secrets  # noqa: PLC0415 - few builds have any

        services.append(Secrets(request.secrets))
    if auth is not None:
        services.append(auth)
    if agents:
        from buildkit_session.services.ssh import Ssh  # noqa: PLC0415 - as above

        services.append(Ssh(agents))
    if inputs.upload is not None:
        services.append(inputs.upload)
    if layouts:
        from buildkit_session.services.content import Content  # noqa: PLC0415 - as above

        services.append(Content(layouts))
    return Session(
        services,
        shared_key=shared_key(inputs.directory) if inputs.directory is not None else secrets.token_hex(16),
        name=inputs.name,
    )


def make_auth(credentials: CredentialsLike | None) -> Auth | None:
    """Make what answers for registries: once for a client, as it keeps the secrets by which daemons know it again.

    Args:
        credentials: by registry, or something that looks for them.

    Raises:
        InputError: they are neither.
    """
    if credentials is None:
        return None
    # Here, not above: few programs have any.
    from buildkit_session.services.auth import Auth  # noqa: PLC0415
    from buildkit_session.services.credentials import StaticCredentials  # noqa: PLC0415
    from buildkit_session.services.docker_config import DockerConfig  # noqa: PLC0415

    if isinstance(credentials, DockerConfig):
        return Auth(credentials, tokens=_docker_tokens)
    if not isinstance(credentials, Mapping):
        return Auth(_source(credentials), tokens=_own_tokens)
    known = {_host(host): _credentials(given) for host, given in credentials.items()}
    return Auth(StaticCredentials(known), tokens=_own_tokens)


def _source(given: Any) -> CredentialSource:
    if isinstance(given, type):
        raise InputError(f"credentials must be an object, not the class {given.__name__}; write {given.__name__}()")
    if isinstance(given, str | bytes) or not callable(getattr(given, "find", None)):  # texts have one of their own
        raise InputError(f"{_WANTED}, or have a method find(), not be {a_type(given)}")
    source: CredentialSource = given
    return source


def _host(name: object) -> str:
    from buildkit_session.services.credentials import registry_host  # noqa: PLC0415 - as above

    if not isinstance(name, str) or not registry_host(name):
        raise InputError(f"credentials are by registry, such as ghcr.io or reg.example:5000, not by {name!r}")
    return name


def _credentials(given: object) -> Credentials:
    from buildkit_session.services.credentials import Credentials  # noqa: PLC0415 - as above

    match given:
        case Credentials():
            return given
        case (str(username), str(password)):
            return Credentials(username, password)
    raise InputError(_WANTED)


def _docker_tokens() -> Tokens | None:
    from buildkit_session.engine.web import AiohttpWeb  # noqa: PLC0415 - as above
    from buildkit_session.services.tokens import Tokens  # noqa: PLC0415

    return Tokens.of_environment(os.environ, AiohttpWeb())


def _own_tokens() -> Tokens:
    from buildkit_session.engine.web import AiohttpWeb  # noqa: PLC0415 - as above
    from buildkit_session.services.tokens import Tokens  # noqa: PLC0415

    return Tokens.of_one_client(AiohttpWeb())


@asynccontextmanager
async def running_agents(sources: Mapping[str, SshSource], *, over_ssh: bool) -> AsyncIterator[Mapping[str, Agent]]:
    """Have the ssh agents of a build, and end those that were started for it with the block.

    Args:
        sources: by id.
        over_ssh: whether the daemon fetches the context by ssh, which needs the default agent if none is named.

    Raises:
        InputError: there is no agent, or a file is no key.
    """
    if not sources and not over_ssh:
        yield {}
        return
    if over_ssh and not sources:
        from buildkit_session.request.ssh import SshAgent  # noqa: PLC0415 - few builds fetch by ssh

        sources = {"default": SshAgent()}
    async with AsyncExitStack() as stack:
        yield {name: await _agent(source, stack) for name, source in sources.items()}


async def _agent(source: SshSource, stack: AsyncExitStack) -> Agent:
    from buildkit_session.request.ssh import SshKeys  # noqa: PLC0415 - as above

    if isinstance(source, SshKeys):
        from buildkit_session.services.key_agent import key_agent  # noqa: PLC0415 - few builds have keys

        return await stack.enter_async_context(key_agent(source.paths))
    from buildkit_session.services.agent_socket import AgentSocket  # noqa: PLC0415 - or agents

    return AgentSocket(source.socket())


def _target(out: Output, loader: ImageLoader | None) -> Target | None:
    if isinstance(out, output.ImageOutput | output.CustomOutput | output.CacheOnlyOutput):
        return None
    if isinstance(out, output.OciOutput | output.DockerOutput):
        return _image_target(out, loader)
    # Here, not above: a build that exports nothing does without what writes exports, a tenth of all there is to load.
    from buildkit_session.services import targets  # noqa: PLC0415

    if isinstance(out, output.LocalOutput):
        return targets.DirectoryTarget(out.dest, out.receive_options, mode=out.mode)
    if isinstance(out, output.ListingOutput):
        return targets.ListingTarget(out.receive_options)
    return _file_target(out)


def _image_target(out: output.OciOutput | output.DockerOutput, loader: ImageLoader | None) -> Target | None:
    if not out.tar:
        return None  # the content store takes it
    if isinstance(out, output.DockerOutput) and out.loads:
        if loader is None:
            return None  # it is in the Engine's store then
        from buildkit_session.services import targets  # noqa: PLC0415 - as above

        return targets.FeedTarget(loader.loading, out.limits)
    return _file_target(out)


def _file_target(out: output.TarOutput | output.OciOutput | output.DockerOutput) -> Target:
    from buildkit_session.services import targets  # noqa: PLC0415 - as above

    if isinstance(out.dest, Path):
        return targets.FileTarget(out.dest, out.limits)
    dest: Any = sys.stdout.buffer if out.to_stdout else out.dest
    return targets.StreamTarget(dest, out.limits)
