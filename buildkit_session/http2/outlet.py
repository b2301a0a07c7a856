"""Writes buffers to a transport; without copying them, where there is a socket to write to.

asyncio's transports join what they are given and keep what the socket does not take in one more buffer, from which they
cut what it takes next: three copies before Python 3.12. So as long as a transport has nothing to send, its socket is
written to straight away. What the socket does not take waits here, but for a first piece that the transport is
given: it watches for the socket to take more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from asyncio.trsock import TransportSocket
    from collections.abc import Iterable

    from buildkit_session.http2.frames import Buffer

__all__ = ["Outlet"]

MAX_PIECES: Final = 512
"""Pieces that the system takes at once; POSIX promises 16, all systems take 1,024."""

BUFFERED: Final = 256 * 1024
"""Bytes that a transport without a plain socket may keep before it says that it is full."""


class Outlet:
    """The writing side of a transport.

    The transport tells its protocol when it is full; until it has room again, only :meth:`write_rest` may be called.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        plain = transport.get_extra_info("sslcontext") is None
        self._socket: TransportSocket | None = transport.get_extra_info("socket") if plain else None
        self._rest: list[Buffer] = []  # what was to be written and waits
        transport.set_write_buffer_limits(high=BUFFERED if self._socket is None else 0)

    def write(self, pieces: Iterable[Buffer]) -> None:
        """Write all pieces in order; what they refer to must not change for now."""
        self._rest += pieces
        while self._rest and not self._transport.is_closing():
            if self._socket is None or self._transport.get_write_buffer_size():
                rest, self._rest = self._rest, []
                self._transport.writelines(rest)
            elif not self._write_to(self._socket):
                return

    def write_rest(self) -> None:
        """Go on, as the transport has room again."""
        self.write(())

    def write_last(self, pieces: Iterable[Buffer]) -> None:
        """Leave it all to the transport, which is closed next."""
        rest, self._rest = self._rest, []
        self._transport.writelines([*rest, *pieces])

    def _write_to(self, socket: TransportSocket) -> bool:
        """Let the socket take what it takes; returns whether the transport has nothing to wait for."""
        pieces, self._rest = self._rest, []
        try:
            written = os.writev(socket.fileno(), pieces[:MAX_PIECES])
        except OSError:
            # The socket is full; else the transport will find the same, and knows what is to be done then.
            written = 0
        for position, piece in enumerate(pieces):
            if written < len(piece):
                self._rest = pieces[position + 1 :]
                self._transport.write(memoryview(piece)[written:])
                break
            written -= len(piece)
        return self._transport.get_write_buffer_size() == 0
