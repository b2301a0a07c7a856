"""``moby.sshforward.v1.SSH``: steps of a build use ssh agents of this side, without ever seeing a key.

The daemon asks with ``CheckAgent`` whether there is one, when it prepares a step, and opens a ``ForwardAgent`` for each
connection that the step makes to its end. What the bytes of those say is looked into
(:mod:`~buildkit_session.services.agent_protocol`): a step may list keys and sign with them, and nothing else. What an
agent answers is looked into as well. A socket that is forwarded raw is the exception: its bytes are nobody's business.

Source: moby/buildkit:session/sshforward/ssh.go, ssh.proto, sshprovider/agentprovider.go.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from buildkit_session.errors import RemoteProtocolError, RpcError
from buildkit_session.grpc.router import Codecs, Route, messages, unary
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.filesync.v1 import BytesMessage  # that of SSH has the same fields
from buildkit_session.messages.moby.sshforward.v1 import CheckAgentRequest, CheckAgentResponse
from buildkit_session.services.agent_messages import checked
from buildkit_session.services.agent_protocol import MAX_REQUEST, Frames, framed, refusal
from buildkit_session.services.pieces import PIECES
from buildkit_session.services.raw_socket import MAX_PIECE, RawSocket

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.metadata import Metadata

__all__ = ["AGENT_ID", "DEFAULT_ID", "Agent", "Conversation", "Ssh"]

AGENT_ID: Final = "buildkit.ssh.id"

DEFAULT_ID: Final = "default"
"""What an empty id means."""

log = logging.getLogger("buildkit_session.services")


class Conversation(Protocol):
    """One connection to an agent; it is asked one thing at a time."""

    async def ask(self, request: bytes, /) -> bytes | None:
        """Return the answer to a request, both without their lengths; ``None`` if the agent has gone."""
        ...

    async def ended(self) -> None:
        """Wait until the agent has gone. Called between requests, and cancelled when there is a next one."""
        ...


class Agent(Protocol):
    """Something that lists keys and signs with them."""

    def connect(self) -> AbstractAsyncContextManager[Conversation]:
        """Begin a conversation, which ends with the block. There are many at once.

        Raises:
            SessionError: (on entering) nobody answers.
        """
        ...


class Ssh:
    """Serves agents by id.

    A step that two builds share runs once: the daemon may use an agent of this session for another client's build, if
    that has the same step.

    Args:
        agents: by id; ``default`` is the one of a mount that names none, and of git sources.
    """

    def __init__(self, agents: Mapping[str, Agent | RawSocket]) -> None:
        self._agents = {name or DEFAULT_ID: agent for name, agent in agents.items()}

    def __repr__(self) -> str:
        return f"<Ssh {sorted(self._agents)}>"

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        checks = messages(CheckAgentRequest, CheckAgentResponse)
        return (
            Route("/moby.sshforward.v1.SSH/CheckAgent", unary(self._check_agent), checks),
            Route("/moby.sshforward.v1.SSH/ForwardAgent", self._forward_agent, _pieces),
        )

    async def _check_agent(self, request: CheckAgentRequest) -> CheckAgentResponse:
        # The step could only say that its connection was closed.
        agent = self._agent(request.id)
        if isinstance(agent, RawSocket):
            await agent.check()
            return CheckAgentResponse()
        async with agent.connect():
            return CheckAgentResponse()

    async def _forward_agent(self, call: IncomingCall[BytesMessage, BytesMessage]) -> None:
        """Answer until the step has said its last, or the agent has gone: then the step must see that too."""
        agent = self._agent(call.metadata.get(AGENT_ID))
        if isinstance(agent, RawSocket):
            await agent.forward(call)
            return
        frames = Frames(MAX_REQUEST)
        async with agent.connect() as conversation:
            while batch := await _next(call, conversation):
                for request in _requests(frames, batch):
                    if (answer := await _answer(conversation, request)) is None:
                        return
                    await _send(call, framed(answer))

    def _agent(self, name: str | None) -> Agent | RawSocket:
        if (agent := self._agents.get(name or DEFAULT_ID)) is None:
            raise RpcError(Status.NOT_FOUND, f"no ssh agent is forwarded as {(name or DEFAULT_ID)[:200]!r}")
        return agent


def _pieces(_metadata: Metadata) -> Codecs:
    return Codecs(PIECES, PIECES)


async def _next(call: IncomingCall[BytesMessage, BytesMessage], conversation: Conversation) -> list[BytesMessage]:
    """The next messages of the step; none when it has ended or the agent has gone."""
    batch: list[BytesMessage] = []

    async def watch() -> None:
        await conversation.ended()
        waits.cancel_scope.cancel()

    async with anyio.create_task_group() as waits:
        waits.start_soon(watch)
        batch = await call.recv_many()
        waits.cancel_scope.cancel()
    return batch


def _requests(frames: Frames, batch: list[BytesMessage]) -> Iterator[bytes]:
    try:
        for message in batch:
            yield from frames.feed(message.data)
    except RemoteProtocolError as error:  # by the step: no fault of the daemon's or of this side
        raise RpcError(Status.INVALID_ARGUMENT, str(error)) from error


async def _answer(conversation: Conversation, request: bytes) -> bytes | None:
    """The answer to a request, of the agent or in its place; ``None`` if the agent has gone."""
    if (refused := refusal(request)) is not None:
        log.debug("! a step asked an ssh agent for something else than keys and signatures: type %d", request[0])
        return refused
    answer = await conversation.ask(request)
    try:
        return None if answer is None else checked(request, answer)
    except RemoteProtocolError as error:  # one that breaks the protocol is of no more use than one that has gone
        log.debug("! an ssh agent answered: %s", error)
        return None


async def _send(call: IncomingCall[BytesMessage, BytesMessage], data: bytes) -> None:
    for start in range(0, len(data), MAX_PIECE):
        await call.send(BytesMessage(data=data[start : start + MAX_PIECE]))
