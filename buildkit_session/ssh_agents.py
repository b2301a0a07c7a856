"""The ssh agents of one build: those that run already, and those that are run for it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from anyio import to_thread

from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from buildkit_session.request.ssh import SshAgent, SshKeys, SshSource
    from buildkit_session.services.chosen_keys import ChosenKeys
    from buildkit_session.services.raw_socket import RawSocket
    from buildkit_session.services.ssh import Agent

__all__ = ["running_agents"]


@asynccontextmanager
async def running_agents(
    sources: Mapping[str, SshSource], *, over_ssh: bool
) -> AsyncIterator[Mapping[str, Agent | RawSocket]]:
    """Have the ssh agents of a build, and end those that were started for it with the block.

    Args:
        sources: by id.
        over_ssh: whether the daemon fetches the context by ssh, which needs the default agent if none is named.

    Raises:
        InputError: there is no agent, a file is no key, a passphrase is wrong, or a key that was chosen is not there.
    """
    if not sources and not over_ssh:
        yield {}
        return
    if over_ssh and not sources:
        from buildkit_session.request.ssh import SshAgent  # noqa: PLC0415 - few builds fetch by ssh

        sources = {"default": SshAgent()}
    async with AsyncExitStack() as stack:
        yield {name: await _running(name, source, stack) for name, source in sources.items()}


async def _running(name: str, source: SshSource, stack: AsyncExitStack) -> Agent | RawSocket:
    from buildkit_session.request.ssh import SshRaw  # noqa: PLC0415 - as above

    if isinstance(source, SshRaw):
        from buildkit_session.services.raw_socket import RawSocket  # noqa: PLC0415 - as above

        return RawSocket(source.path)
    chosen = await _chosen(source)
    agent = await _agent(source, chosen, stack)
    if chosen is None and source.confirm is None:
        return agent
    from buildkit_session.services.agent_guard import AgentGuard  # noqa: PLC0415 - as above

    return AgentGuard(agent, name, chosen=chosen, confirm=source.confirm)


async def _chosen(source: SshAgent | SshKeys) -> ChosenKeys | None:
    if not source.only:
        return None
    from buildkit_session.services.chosen_keys import ChosenKeys  # noqa: PLC0415 - as above

    return await to_thread.run_sync(ChosenKeys.of, source.only)


async def _agent(source: SshAgent | SshKeys, chosen: ChosenKeys | None, stack: AsyncExitStack) -> Agent:
    from buildkit_session.request.ssh import SshAgent  # noqa: PLC0415 - as above

    if isinstance(source, SshAgent):
        from buildkit_session.services.agent_socket import AgentSocket  # noqa: PLC0415 - few builds have any

        return AgentSocket(source.socket())
    from buildkit_session.services.opened_keys import identities_of, opened_keys  # noqa: PLC0415 - likewise

    agent = await stack.enter_async_context(opened_keys((*source.paths, *source.contents), source.passphrase))
    if chosen is not None:
        identities = await identities_of(agent)
        if (missing := chosen.missing(identities)) is not None:
            known = ", ".join(repr(one.comment.decode("utf-8", "backslashreplace")) for one in identities)
            raise InputError(f"only= of ssh.keys() names {missing!r}, and the comments of the keys are {known:.200}")
    return agent
