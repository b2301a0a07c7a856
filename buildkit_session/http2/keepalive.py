"""Notices a peer that has gone without a word: its machine, its process or the tunnel to it.

A peer that is there answers PING, however busy it is. Any byte counts as a sign of life, so PINGs are sent only on a
connection that is silent, which under BuildKit's health checks is rare.

Source: RFC 9113, section 6.7; grpc/proposal:A8-client-side-keepalive.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Keepalive"]

IDLE: Final = 60.0
"""Seconds of silence after which a PING is sent."""

PATIENCE: Final = 60.0
"""Seconds in which something must come after that."""


class Keepalive:
    """Watches one connection from :meth:`start` to :meth:`stop`.

    Args:
        loop: tells the time and calls back.
        ping: sends a PING.
        lost: hears for how many seconds the peer has been silent, once.
        idle: seconds of silence after which a PING is sent; ``IDLE`` by default.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        ping: Callable[[], None],
        lost: Callable[[float], None],
        idle: float | None = None,
    ) -> None:
        self._loop = loop
        self._idle = IDLE if idle is None else idle
        self._ping = ping
        self._lost = lost
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch."""
        self.heard()
        self._timer = self._loop.call_later(self._idle, self._look)

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def heard(self) -> None:
        """Something came."""
        self._heard_at = self._loop.time()

    def _look(self) -> None:
        silent = self._loop.time() - self._heard_at
        if silent >= self._idle + PATIENCE:
            self._timer = None
            self._lost(silent)
            return
        if silent >= self._idle:
            self._ping()
            wait = self._idle + PATIENCE - silent
        else:
            wait = self._idle - silent
        self._timer = self._loop.call_later(wait, self._look)
