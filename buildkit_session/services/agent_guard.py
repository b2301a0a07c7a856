"""A guard in front of an ssh agent: steps see the keys that were chosen, and somebody may refuse a signature."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from buildkit_session.errors import CallbackError, RemoteProtocolError, SessionError
from buildkit_session.services.agent_messages import (
    FAILURE,
    LIST,
    Identity,
    Signing,
    identities_answer,
    read_identities,
    read_signing,
)
from buildkit_session.services.callbacks import called
from buildkit_session.services.sign_request import SignRequest, sign_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from buildkit_session.services.chosen_keys import ChosenKeys
    from buildkit_session.services.ssh import Agent, Conversation

    Confirm: TypeAlias = Callable[[SignRequest], "Awaitable[bool] | bool"]

__all__ = ["AgentGuard"]

WHAT: Final = "confirm= of the ssh agent"

log = logging.getLogger("buildkit_session.services")


class AgentGuard:
    """An :class:`~buildkit_session.services.ssh.Agent` that lets another one be asked for less.

    Args:
        agent: that has the keys.
        name: under which it is forwarded.
        chosen: the keys that are listed and may sign; ``None`` for all.
        confirm: is asked before each signature, and signs by returning ``True`` and nothing else.
    """

    def __init__(self, agent: Agent, name: str, *, chosen: ChosenKeys | None, confirm: Confirm | None) -> None:
        self._agent = agent
        self._name = name
        self._chosen = chosen
        self._confirm = confirm
        self._said: str | None = None

    def __repr__(self) -> str:
        return f"<AgentGuard {self._agent!r}>"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[_Guarded]:
        """See :class:`~buildkit_session.services.ssh.Agent`."""
        async with self._agent.connect() as conversation:
            yield _Guarded(self, conversation)

    async def identities(self, conversation: Conversation) -> tuple[Identity, ...] | None:
        """The keys that may be used, as the agent has them now; ``None`` if it has gone or breaks the protocol."""
        answer = await conversation.ask(LIST)
        if answer is None or answer == FAILURE:
            return None if answer is None else ()
        try:
            identities = read_identities(answer)
        except RemoteProtocolError:
            return None
        if self._chosen is None:
            return identities
        self._say_missing(self._chosen.missing(identities))
        return tuple(one for one in identities if self._chosen.has(one))

    def _say_missing(self, name: str | None) -> None:
        """Warn of what was misspelt, once: a step sees no key, and says that the server does not let it in."""
        if name is not None and name != self._said:
            self._said = name
            log.warning("only= of ssh %r names %r, and the agent has no such key: see ssh-add -l", self._name, name)

    async def allows(self, identity: Identity, signing: Signing) -> bool:
        """Ask whether a key may sign. Whatever fails is a refusal."""
        if self._confirm is None:
            return True
        request = sign_request(self._name, identity, signing)
        try:
            answer = await called(self._confirm, request, kind="confirm", what=WHAT)
        except SessionError as error:
            # The text of another error is the caller's own, and may hold anything.
            reason = error if isinstance(error, CallbackError) else f"{WHAT} raised {type(error).__name__}"
            log.warning("no signature for a step: %s", reason)
            return False
        return answer is True


class _Guarded:
    def __init__(self, guard: AgentGuard, conversation: Conversation) -> None:
        self._guard = guard
        self._conversation = conversation

    async def ask(self, request: bytes) -> bytes | None:
        # Listed anew each time: an agent may lose a key, and which keys have a comment may change.
        if (identities := await self._guard.identities(self._conversation)) is None:
            return None
        if request == LIST:
            return identities_answer(identities)
        signing = read_signing(request)
        identity = next((one for one in identities if one.blob == signing.blob), None)
        if identity is None or not await self._guard.allows(identity, signing):
            log.debug("! a step was refused a signature")
            return FAILURE
        return await self._conversation.ask(request)

    async def ended(self) -> None:
        await self._conversation.ended()
