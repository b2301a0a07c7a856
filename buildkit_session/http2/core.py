"""The HTTP/2 connection as a pure state machine: bytes in, events out; commands in, bytes out.

Owns the protocol state (in ``h2``), the windows of both directions, and what waits to be sent. Does no input or
output and never waits. The caller, after every call, writes what :meth:`Core.data_to_send` returns.

Windows, received direction: credit for the *connection* is given back on receipt, credit for a *stream* when its
bytes are consumed. So one reader that stopped slows its own stream only, and memory is bounded by
``stream_window * max_streams``. Both are given back in batches, to spare frames.

Windows, sent direction: DATA leaves in frames of at most the peer's maximum, one frame a stream in turn. What h2 emits
by itself (answers to PING and SETTINGS, window updates, resets) always leaves before DATA.

Source: RFC 9113, sections 5.2 and 6.9.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.http2.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    Headers,
    StreamEnded,
    StreamOpened,
    StreamResetReceived,
)
from buildkit_session.http2.gate import PREFACE, FrameGate

__all__ = ["Core"]

MAX_FRAME: Final = 16384
"""Largest frame payload we accept, in bytes: HTTP/2's default, which grpc-go never exceeds."""

STREAM_WINDOW: Final = 256 * 1024
CONNECTION_WINDOW: Final = 1024 * 1024
MAX_STREAMS: Final = 250
"""As buildx announces. Health checks share this number with transfers, so it is never small."""

MAX_HEADER_LIST: Final = 4 * 1024 * 1024
"""Bytes, counted as RFC 9113 section 6.5.2 says. The patterns of a .dockerignore arrive as header fields."""

NO_ERROR: Final = 0
INTERNAL_ERROR: Final = 2


class _Outgoing:
    """What one stream still has to send."""

    __slots__ = ("buffer", "reset_after", "trailers")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.trailers: Headers | None = None
        # The code of a reset that follows the trailers, or None.
        self.reset_after: int | None = None


class Core:
    """One HTTP/2 connection in the server role.

    Commands on a stream that is already closed do nothing: late frames are normal traffic.

    Args:
        stream_window: bytes that a peer may send on one stream before they are consumed.
        connection_window: bytes in flight on the whole connection.
        max_streams: streams the peer may have open at once.
        max_header_list: largest decoded header list, in bytes.
    """

    def __init__(
        self,
        *,
        stream_window: int = STREAM_WINDOW,
        connection_window: int = CONNECTION_WINDOW,
        max_streams: int = MAX_STREAMS,
        max_header_list: int = MAX_HEADER_LIST,
    ) -> None:
        # Validation of inbound headers is off because grpc-go sends values with outer spaces verbatim (a COPY of
        # " a "), which h2 would answer by ending the connection; the gRPC layer checks what it relies on.
        config = h2.config.H2Configuration(
            client_side=False, header_encoding=None, validate_inbound_headers=False, normalize_inbound_headers=False
        )
        self._h2 = h2.connection.H2Connection(config)
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: max_streams,
                codes.INITIAL_WINDOW_SIZE: stream_window,
                codes.MAX_HEADER_LIST_SIZE: max_header_list,
                codes.MAX_FRAME_SIZE: MAX_FRAME,
            },
        )
        # The setting is only what we announce; the decoder has a limit of its own (64 KiB unless told).
        self._h2.decoder.max_header_list_size = max_header_list
        self._gate = FrameGate(max_frame=MAX_FRAME, expect_preface=True)
        self._stream_credit_at = stream_window // 2
        # A quarter, not half: h2 returns credit for closed streams on its own count, up to half the window late.
        self._connection_credit_at = connection_window // 4
        self._connection_owed = 0
        self._stream_owed: dict[int, int] = {}
        self._outgoing: dict[int, _Outgoing] = {}
        # Streams that may have something to send, each once; the left one is next.
        self._ready: deque[int] = deque()
        self._ended_by_peer: set[int] = set()
        self._closed = False
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(connection_window - 65535)
        self._h2.receive_data(PREFACE)  # the gate has taken the real one

    # -- received direction -------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes from the peer and return what they mean.

        Raises:
            RemoteProtocolError: the peer broke HTTP/2. A GOAWAY that says so waits in :meth:`data_to_send`;
                the connection must then be closed.
        """
        if self._closed:
            return []
        events: list[Event] = []
        try:
            for run in self._gate.feed(data):
                if isinstance(run, GoAwayReceived):
                    events.append(run)
                else:
                    for event in self._h2.receive_data(run):
                        self._translate(event, events)
        except RemoteProtocolError as error:
            self._h2.close_connection(error.code)
            self._closed = True
            raise
        except h2.exceptions.ProtocolError as error:
            self._closed = True  # h2 has queued the GOAWAY itself
            message = f"the peer broke HTTP/2: {error}"
            raise RemoteProtocolError(message, code=int(error.error_code)) from error
        return events

    def _translate(self, event: h2.events.Event, events: list[Event]) -> None:
        match event:
            case h2.events.DataReceived(stream_id=int(stream_id), data=bytes(data)):
                length = event.flow_controlled_length or 0
                self._credit_connection(length)
                if length > len(data):
                    self.consumed(stream_id, length - len(data))
                if data:
                    events.append(DataReceived(stream_id, data))
            case h2.events.RequestReceived(stream_id=int(stream_id)):
                self._outgoing[stream_id] = _Outgoing()
                self._stream_owed[stream_id] = 0
                events.append(StreamOpened(stream_id, [(bytes(n), bytes(v)) for n, v in event.headers or ()]))
            case h2.events.StreamEnded(stream_id=int(stream_id)):
                self._ended_by_peer.add(stream_id)
                events.append(StreamEnded(stream_id))
            case h2.events.StreamReset(stream_id=int(stream_id)):
                self._forget(stream_id)
                events.append(StreamResetReceived(stream_id, int(event.error_code or 0)))
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._wake_all()
            case _:
                pass  # acknowledgements and PINGs: answered by h2; trailers of a request mean nothing in gRPC

    def consumed(self, stream_id: int, size: int) -> None:
        """Say that ``size`` bytes of a stream were read, so that the peer may send as many again."""
        owed = self._stream_owed.get(stream_id)
        if owed is None or stream_id in self._ended_by_peer:
            return
        owed += size
        if owed >= self._stream_credit_at and not self._closed:
            self._h2.increment_flow_control_window(owed, stream_id)
            owed = 0
        self._stream_owed[stream_id] = owed

    def _credit_connection(self, size: int) -> None:
        self._connection_owed += size
        if self._connection_owed >= self._connection_credit_at:
            self._h2.increment_flow_control_window(self._connection_owed)
            self._connection_owed = 0

    # -- sent direction -----------------------------------------------------------------------------------------

    def send_headers(self, stream_id: int, headers: Headers) -> None:
        """Send the headers of a response. They leave at once, ahead of all DATA."""
        if not self._closed and stream_id in self._outgoing:
            self._h2.send_headers(stream_id, headers)

    def send_data(self, stream_id: int, data: bytes | bytearray | memoryview) -> None:
        """Queue payload; it leaves as the windows allow. The caller bounds the queue by :meth:`queued`."""
        out = self._outgoing.get(stream_id)
        if out is not None:
            out.buffer += data
            self._make_ready(stream_id)

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """Queue the last headers of a response behind its DATA and end the stream.

        Where the peer has not ended its side, RST_STREAM(NO_ERROR) follows: it may stop sending.

        Source: RFC 9113, section 8.1.
        """
        out = self._outgoing.get(stream_id)
        if out is not None:
            out.trailers = headers
            out.reset_after = NO_ERROR
            self._make_ready(stream_id)

    def reset_stream(self, stream_id: int, code: int) -> None:
        """End a stream at once; what it had queued is dropped."""
        if stream_id in self._outgoing and not self._closed:
            self._forget(stream_id)
            self._h2.reset_stream(stream_id, code)

    def close(self, code: int = NO_ERROR) -> None:
        """Queue GOAWAY. Nothing else can be sent afterwards; what streams had queued is dropped."""
        if not self._closed:
            self._closed = True
            self._outgoing.clear()
            self._ready.clear()
            self._h2.close_connection(code)

    def queued(self, stream_id: int) -> int:
        """Bytes of a stream that wait to be sent."""
        out = self._outgoing.get(stream_id)
        return len(out.buffer) if out is not None else 0

    def is_open(self, stream_id: int) -> bool:
        """Whether something may still be sent on a stream."""
        return stream_id in self._outgoing

    def data_to_send(self, limit: int) -> bytes:
        """Return bytes for the wire: control frames whole, then about ``limit`` bytes of DATA at most."""
        budget = 0 if self._closed else limit
        while budget > 0 and self._ready:
            stream_id = self._ready.popleft()
            sent = self._send_one(stream_id)
            budget -= sent
            # A stream that could send nothing stays out of the turn until a window widens.
            if sent and stream_id in self._outgoing:
                self._ready.append(stream_id)
        return self._h2.data_to_send()

    def _send_one(self, stream_id: int) -> int:
        """Emit one frame of a stream; return its cost in bytes, 0 when its window or its queue is empty."""
        out = self._outgoing.get(stream_id)
        if out is None:
            return 0
        if out.buffer:
            window = self._h2.local_flow_control_window(stream_id)
            size = min(len(out.buffer), window, self._h2.max_outbound_frame_size)
            if size <= 0:
                return 0
            with memoryview(out.buffer) as view:
                self._h2.send_data(stream_id, bytes(view[:size]))
            del out.buffer[:size]
            return size
        if out.trailers is None:
            return 0
        self._h2.send_headers(stream_id, out.trailers, end_stream=True)
        if out.reset_after is not None and stream_id not in self._ended_by_peer:
            self._h2.reset_stream(stream_id, out.reset_after)
        self._forget(stream_id)
        return 1

    def _has_work(self, stream_id: int) -> bool:
        out = self._outgoing[stream_id]
        return bool(out.buffer) or out.trailers is not None

    def _make_ready(self, stream_id: int) -> None:
        if stream_id not in self._ready:
            self._ready.append(stream_id)

    def _wake_all(self) -> None:
        for stream_id in self._outgoing:
            if self._has_work(stream_id):
                self._make_ready(stream_id)

    def _forget(self, stream_id: int) -> None:
        self._outgoing.pop(stream_id, None)
        self._stream_owed.pop(stream_id, None)
        self._ended_by_peer.discard(stream_id)
