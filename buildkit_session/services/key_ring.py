"""An ssh agent in this process, for private keys from files or from memory. It lists and signs, and that is all."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio import to_thread

from buildkit_session.errors import InputError
from buildkit_session.services.agent_messages import (
    FAILURE,
    LIST,
    Identity,
    identities_answer,
    read_signing,
    signature_answer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

__all__ = ["KeyRing", "SigningKey"]

log = logging.getLogger("buildkit_session.services")


class SigningKey(Protocol):
    """A private key."""

    @property
    def identity(self) -> Identity:
        """What is listed of it."""
        ...

    def sign(self, data: bytes, flags: int) -> bytes | None:
        """Sign, which blocks for milliseconds; ``None`` if the key does not make such a signature.

        Args:
            data: what is signed.
            flags: those of the request.

        Returns:
            The name of the algorithm and the signature, as SSH writes them.
        """
        ...


class KeyRing:
    """An :class:`~buildkit_session.services.ssh.Agent` that has some keys until it is closed.

    Args:
        keys: to sign with; of one that comes twice the first is taken.
    """

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self._keys: dict[bytes, SigningKey] = {}
        for key in keys:
            self._keys.setdefault(key.identity.blob, key)
        self._closed = False

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._keys)}>"

    def close(self) -> None:
        """Forget the keys."""
        self._keys.clear()
        self._closed = True

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[KeyRing]:
        """See :class:`~buildkit_session.services.ssh.Agent`. All conversations are the same: nothing changes here."""
        if self._closed:
            raise InputError("the ssh keys of this build are gone: it has ended")
        yield self

    async def ask(self, request: bytes) -> bytes:
        """See :class:`~buildkit_session.services.ssh.Conversation`. Signs in a thread.

        Raises:
            RemoteProtocolError: the request is neither for keys nor for a signature.
        """
        if request == LIST:
            return identities_answer(key.identity for key in self._keys.values())
        signing = read_signing(request)
        if (key := self._keys.get(signing.blob)) is None:
            return FAILURE
        try:
            signature = await to_thread.run_sync(key.sign, signing.data, signing.flags)
        except Exception as error:  # noqa: BLE001 - a step learns no more than that there is no signature
            log.warning("an ssh key could not sign: %s", type(error).__name__)
            signature = None
        return FAILURE if signature is None else signature_answer(signature)

    async def ended(self) -> None:
        """Wait for ever: it does not go."""
        await anyio.sleep_forever()
