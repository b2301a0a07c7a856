"""The memory for large messages that arrive on one connection.

A message may have 16 MiB and there may be 250 calls at once; what is a few bytes short of its end would be held for as
long as the peer likes. So a large one is taken in only when there is room for all of it; until then its stream is not
read, which the peer notices by the window. Who is given room has it for the whole message and so gets done: calls that
wait for each other cannot come to a standstill. Small messages do not wait.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio

__all__ = ["LARGE", "Allowance"]

LARGE: Final = 256 * 1024
"""Bytes above which a message is large: those up to the window of a stream add nothing to what that may hold."""

TOTAL: Final = 32 * 1024 * 1024
"""Bytes of large messages that are held at once: two of the largest."""


class Allowance:
    """Room for large messages, given in the order in which it was asked for.

    Args:
        total: bytes; no less than the largest message.
    """

    def __init__(self, total: int = TOTAL) -> None:
        self._left = total
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    async def take(self, size: int) -> None:
        """Wait for room for a message of ``size`` bytes."""
        mine = size, anyio.Event()
        self._waiting.append(mine)
        self._admit()
        try:
            await mine[1].wait()
        except BaseException:
            if mine in self._waiting:
                self._waiting.remove(mine)
                self._admit()
            else:
                self.give_back(size)
            raise

    def give_back(self, size: int) -> None:
        """Say that a message is no longer held."""
        self._left += size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left:
            size, admitted = self._waiting.popleft()
            self._left -= size
            admitted.set()
