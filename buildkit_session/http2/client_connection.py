"""A connection on which this side asks: it opens the streams.

Source: RFC 9113, sections 5.1.2 (limits of concurrent streams) and 6.8 (GOAWAY);
grpc/proposal:A8-client-side-keepalive.md.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import ConnectionClosed
from buildkit_session.http2.client_core import ClientCore
from buildkit_session.http2.connection import Connection, Stream
from buildkit_session.http2.frames import CANCEL

if TYPE_CHECKING:
    from buildkit_session.http2.events import Headers

__all__ = ["ClientConnection"]

IDLE: Final = 310.0
"""Seconds of silence after which a PING is sent. A gRPC server ends the connection of a client that asks more often
than every five minutes."""


class ClientConnection(Connection):
    """An asyncio protocol that makes HTTP/2 requests on whatever transport it is given."""

    def __init__(self) -> None:
        self._client = ClientCore()
        super().__init__(_unasked, core=self._client, idle=IDLE)
        self._going_away = False
        self._line = asyncio.Lock()  # held by the one whose turn it is to open a stream
        self._room = asyncio.Event()  # there is room for a stream, or never will be

    async def open(self, headers: Headers) -> Stream:
        """Open a stream with a request; waits in line while the server takes no more.

        A cancelled call has sent nothing.

        Raises:
            LocalProtocolError: the headers are malformed.
            ConnectionClosed: the connection has ended, or the server takes no new streams on it.
        """
        async with self._line:
            while not self._client.can_open and not self._is_useless:
                self._room.clear()
                await self._room.wait()
            if self._is_useless:
                raise ConnectionClosed("the server takes no more requests on this connection") from self.error
            stream_id = self._client.open_stream(headers)
        stream = self._streams[stream_id] = Stream(self, stream_id, headers)
        self._schedule_flush()
        return stream

    def end_stream(self, stream_id: int) -> None:
        """See :meth:`ClientCore.end_stream`."""
        self._client.end_stream(stream_id)
        self._schedule_flush()

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes of the peer, which may have ended streams or raised their limit."""
        super().feed(data)
        self._look_for_room()

    def reset_stream(self, stream_id: int, code: int) -> None:
        """End a stream, which makes room for another."""
        super().reset_stream(stream_id, code)
        self._look_for_room()

    @property
    def _is_useless(self) -> bool:
        return self._ended or self._going_away

    def _look_for_room(self) -> None:
        if self._client.can_open or self._is_useless:
            self._room.set()

    def _refused_after(self, last: int) -> None:
        self._going_away = True
        for stream_id in [number for number in self._streams if number > last]:
            self._streams[stream_id]._failed(ConnectionClosed("the server went away before it took this request"))
            self.reset_stream(stream_id, CANCEL)

    def _end(self, reason: str) -> None:
        super()._end(reason)
        self._look_for_room()

    def _send_ping(self) -> None:
        if self._streams:
            super()._send_ping()
        else:
            # Nobody waits for the server, and of a client without calls it takes a PING every two hours.
            self._keepalive.heard()


def _unasked(_stream: Stream) -> None:
    """No server opens streams: the core ends a connection on which one tries."""
