"""Credentials that a function of the caller finds, one host at a time.

An answer that says when it ends is kept until shortly before that; any other is good for this one question. Who asks
while the function runs for the same host waits for that answer. The function runs within the call that asked first: if
that is cancelled the function is, and where others wait, the first of them begins anew. So nothing outlives its call.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import anyio

from buildkit_session.errors import CallbackError, InputError
from buildkit_session.services.callbacks import called
from buildkit_session.services.credentials import Credentials
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    Found: TypeAlias = "Credentials | tuple[str, str] | None"
    CredentialFunction: TypeAlias = "Callable[[str], Awaitable[Found]] | Callable[[str], Found]"

__all__ = ["CalledCredentials", "CredentialFunction", "Found"]

MARGIN: Final = timedelta(seconds=30)
"""How long before its end an answer is asked for again: what it is used for takes time, and clocks differ. An answer
that lives for less than ten times that is kept for nine tenths of its life."""

MAX_KEPT: Final = 1000
"""Answers that are kept: a daemon may ask about any number of hosts."""


@dataclass(eq=False)
class _Question:
    """One run of the function."""

    done: anyio.Event = field(default_factory=anyio.Event)
    answered: bool = False
    found: Credentials | None = None
    failure: CallbackError | InputError | None = None


class CalledCredentials:
    """A :class:`~buildkit_session.services.credentials.CredentialSource` that asks a function.

    Args:
        function: takes the host; returns credentials, a user and a password, or ``None``. One with ``async def`` runs
            on the event loop, a plain one in a thread, which goes on by itself when the call is cancelled.
    """

    def __init__(self, function: CredentialFunction) -> None:
        self._function = function
        self._kept: OrderedDict[str, tuple[datetime, Credentials]] = OrderedDict()
        self._running: dict[str, _Question] = {}

    def __repr__(self) -> str:
        return "<CalledCredentials>"

    async def find(self, host: str, /) -> Credentials | None:
        """Return the credentials for ``host``, ``None`` if there are none.

        Raises:
            CallbackError: the function raised something; neither text nor cause show what, as it may hold a password.
            InputError: it returned something else, or has raised this.
        """
        if (found := self._still_good(host)) is not None:
            return found
        while (running := self._running.get(host)) is not None:
            await running.done.wait()
            if running.failure is not None:  # an error of one's own: each raise adds to a traceback
                raise type(running.failure)(*running.failure.args)
            if running.answered:
                return running.found
        return await self._ask(host)

    def _still_good(self, host: str) -> Credentials | None:
        end, found = self._kept.get(host, (None, None))
        if end is not None and end > datetime.now(UTC):
            return found
        self._kept.pop(host, None)
        return None

    async def _ask(self, host: str) -> Credentials | None:
        question = self._running[host] = _Question()
        try:
            question.found = await self._called(host)
            question.answered = True
        except (CallbackError, InputError) as error:
            question.failure = error
            raise
        finally:
            del self._running[host]
            question.done.set()
        self._keep(host, question.found)
        return question.found

    async def _called(self, host: str) -> Credentials | None:
        what = f"the function for the credentials of {host}"
        found = await called(self._function, host, kind="credentials", what=what)
        match found:
            case None | Credentials():
                return found
            case (str(username), str(password)):
                return Credentials(username, password)
        raise InputError(f"{what} must return Credentials, a user and a password, or None, not {a_type(found)}")

    def _keep(self, host: str, found: Credentials | None) -> None:
        if found is None or found.expires_at is None:
            return
        left = found.expires_at - datetime.now(UTC)
        if left <= timedelta(0):
            return  # the registry has the last word: its clock may be another
        self._kept[host] = found.expires_at - min(MARGIN, left / 10), found
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
