"""The ssh agents of one build: those that run already, and those that are run for it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from buildkit_session.request.ssh import SshSource
    from buildkit_session.services.ssh import Agent

__all__ = ["running_agents"]


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
