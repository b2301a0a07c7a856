"""A peer that has gone without a word is noticed, and one that only has nothing to say is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import h2.events
import pytest
from scripted_peer import PATIENCE, connected

from buildkit_session.errors import ConnectionClosed
from buildkit_session.http2 import keepalive

if TYPE_CHECKING:
    from buildkit_session.http2.connection import Stream

pytestmark = pytest.mark.anyio


async def test_a_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """ND-04: whoever waits for it is woken, with the reason."""
    monkeypatch.setattr(keepalive, "IDLE", 1.0)
    monkeypatch.setattr(keepalive, "PATIENCE", 0.1)
    streams: list[Stream] = []
    async with connected(streams.append) as peer:
        await peer.open()
        await peer.ping()
        peer.stop_reading()

        with anyio.fail_after(PATIENCE), pytest.raises(ConnectionClosed, match="does not answer"):
            await streams[0].receive()

        assert isinstance(peer.connection.error, ConnectionClosed)


async def test_a_peer_with_nothing_to_say_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked, and answers."""
    monkeypatch.setattr(keepalive, "IDLE", 0.05)
    monkeypatch.setattr(keepalive, "PATIENCE", 5.0)
    async with connected(lambda _: None) as peer:
        await peer.until(lambda: sum(isinstance(event, h2.events.PingReceived) for event in peer.events) >= 1)

        assert not peer.connection.closed.is_set()
        assert peer.connection.error is None
