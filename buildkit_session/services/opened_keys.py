"""From key files and keys in memory to an agent that has them, in this process or, without a library, OpenSSH's."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from anyio import to_thread

from buildkit_session.errors import InputError
from buildkit_session.services.agent_messages import LIST, read_identities
from buildkit_session.services.callbacks import called
from buildkit_session.services.key_file import can_open_keys, is_encrypted, look_at, read_key
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path

    from buildkit_session.services.agent_messages import Identity
    from buildkit_session.services.private_keys import PrivateKey
    from buildkit_session.services.ssh import Agent

    Passphrase: TypeAlias = str | bytes | Callable[[Path | None], Awaitable[str | bytes] | str | bytes]

__all__ = ["identities_of", "opened_keys"]


@asynccontextmanager
async def opened_keys(keys: Iterable[Path | bytes], passphrase: Passphrase | None) -> AsyncIterator[Agent]:
    """Have an agent with some keys, until the block is left.

    Args:
        keys: paths of private keys, or such keys themselves.
        passphrase: of those that have one; a function is asked for each of them, with the path or ``None``.

    Raises:
        InputError: (on entering) one of them is no usable key, or the passphrase is wrong.
        CallbackError: (on entering) the function for a passphrase raised something.
    """
    if not can_open_keys():
        from buildkit_session.services.key_agent import key_agent  # noqa: PLC0415 - seldom

        async with key_agent(keys) as agent:
            yield agent
        return
    from buildkit_session.services.key_ring import KeyRing  # noqa: PLC0415 - as above

    ring = KeyRing([await _open(key, passphrase) for key in keys])
    try:
        yield ring
    finally:
        ring.close()


async def identities_of(agent: Agent) -> tuple[Identity, ...]:
    """The keys of an agent that was made here."""
    async with agent.connect() as conversation:
        return read_identities(await conversation.ask(LIST) or b"")


async def _open(key: Path | bytes, passphrase: Passphrase | None) -> PrivateKey:
    path = None if isinstance(key, bytes) else key
    name, comment = ("the ssh key in memory", "") if path is None else (f"ssh key {path}", path.name)
    content = key if isinstance(key, bytes) else await to_thread.run_sync(read_key, key)
    look_at(content, name)
    words = await _words(passphrase, path, name) if is_encrypted(content) else None
    return await to_thread.run_sync(_load, content, words, name, comment)


def _load(content: bytes, passphrase: bytes | None, name: str, comment: str) -> PrivateKey:
    # Here, in the thread: the library takes a tenth of a second to load.
    from buildkit_session.services.private_keys import open_key  # noqa: PLC0415 - see above

    return open_key(content, passphrase, name=name, comment=comment)


async def _words(passphrase: Passphrase | None, path: Path | None, name: str) -> bytes:
    found = passphrase
    if callable(passphrase):
        found = await called(passphrase, path, kind="passphrase", what=f"{name}: the function for its passphrase")
    if not isinstance(found, str | bytes):
        raise InputError(f"{name}: its passphrase must be a text or bytes, not {a_type(found)}")
    if not found:
        raise InputError(f"{name}: its passphrase is empty")
    return found.encode("utf-8", "surrogateescape") if isinstance(found, str) else found
