"""A connection that the next one to need it takes over, if that is soon.

The connection that was opened to ask a daemon what it is would be closed, and another one opened for the build a moment
later: by ssh that costs most of a second. After that moment it may have died without a word, so it is not kept longer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from buildkit_session.http2.client_connection import ClientConnection

__all__ = ["Spare"]

LIFE: Final = 2.0
"""Seconds that a connection is kept."""


class Spare:
    """Room for one connection.

    Args:
        life: seconds that it is kept.
    """

    def __init__(self, *, life: float = LIFE) -> None:
        self._life = life
        self._kept: ClientConnection | None = None
        self._end: asyncio.TimerHandle | None = None

    def keep(self, connection: ClientConnection) -> None:
        """Keep a connection without calls; one that was kept before is closed."""
        self._drop()
        self._kept = connection
        self._end = asyncio.get_running_loop().call_later(self._life, self._drop)

    def take(self) -> ClientConnection | None:
        """Hand out what is kept, ``None`` if there is nothing or its peer has gone."""
        kept, self._kept = self._kept, None
        if self._end is not None:
            self._end.cancel()
        return None if kept is None or kept.closed.is_set() else kept

    async def aclose(self) -> None:
        """Close what is kept, and wait until that is done."""
        if (kept := self.take()) is not None:
            kept.close()
            await kept.closed.wait()

    def _drop(self) -> None:
        if (kept := self.take()) is not None:
            kept.close()
