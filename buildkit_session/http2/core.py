"""The HTTP/2 connection as a pure state machine: bytes in, events out; commands in, bytes out.

Owns the protocol state (in ``h2``), the windows of both directions, and what waits to be sent. Does no input or
output and never waits. The caller, after every call, writes what :meth:`Core.data_to_send` returns.

Windows, received direction: credit for the *connection* is given back on receipt, credit for a *stream* when its
bytes are consumed. So one reader that stopped slows its own stream only, and memory is bounded by
``stream_window * max_streams``. Both are given back in batches, to spare frames.

Windows, sent direction: DATA leaves in frames of at most the peer's maximum, one frame a stream in turn. A stream with
something to send is in one of three places: *ready*, in turn; *parked*, in turn for the connection's window; or in
neither, until its own window widens. What h2 emits by itself (answers to PING and SETTINGS, window updates, resets)
always leaves before DATA.

Source: RFC 9113, sections 5.2 and 6.9.
"""

from __future__ import annotations

from collections import OrderedDict
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
from buildkit_session.http2.fields import request_fault
from buildkit_session.http2.gate import PREFACE, FrameGate

__all__ = ["NO_ERROR", "Core"]

MAX_FRAME: Final = 16384
"""Largest frame payload we accept, in bytes: HTTP/2's default, which grpc-go never exceeds."""

MAX_FRAME_SENT: Final = 64 * 1024
"""Largest DATA frame we send where the peer accepts more, in bytes: streams take turns frame by frame."""

STREAM_WINDOW: Final = 256 * 1024
CONNECTION_WINDOW: Final = 1024 * 1024
DEFAULT_WINDOW: Final = 65535

MAX_STREAMS: Final = 250
"""As buildx announces. Health checks share this number with transfers, so it is never small."""

MAX_HEADER_LIST: Final = 4 * 1024 * 1024
"""Bytes, counted as RFC 9113 section 6.5.2 says. The patterns of a .dockerignore arrive as header fields."""

HEADER_TABLE: Final = 4096
"""Bytes of sent fields remembered for compression at most: HTTP/2's default, whatever the peer would allow."""

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
REFUSED_STREAM: Final = 7


class _Stream:
    """What is known of an open stream."""

    __slots__ = ("ended", "owed", "trailers", "unsent")

    def __init__(self) -> None:
        self.unsent = bytearray()  # payload
        self.trailers: Headers | None = None  # what ends the stream, behind all payload
        self.owed = 0  # bytes consumed whose credit the peer has not been given yet
        self.ended = False  # the peer sends nothing more


class Core:
    """One HTTP/2 connection in the server role.

    Commands on a stream that is already closed do nothing: late frames are normal traffic.

    Args:
        stream_window: bytes that a peer may send on one stream before they are consumed.
        connection_window: bytes in flight on the whole connection; more than HTTP/2's default of 65,535.
        max_streams: streams the peer may have open at once; one above is refused, the others go on.
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
        self._gate = FrameGate(max_frame=MAX_FRAME, expect_preface=True)
        self._max_streams = max_streams
        self._stream_credit_at = stream_window // 2
        # A quarter, not half: h2 returns credit for closed streams on its own count, up to half the window late.
        self._connection_credit_at = connection_window // 4
        self._connection_owed = 0
        self._streams: dict[int, _Stream] = {}
        # Ordered sets; the first is next.
        self._ready: OrderedDict[int, None] = OrderedDict()
        self._parked: OrderedDict[int, None] = OrderedDict()
        self._advanced: set[int] = set()
        self._closed = False
        self._h2 = _server_connection(stream_window, max_streams, max_header_list)
        self._h2.increment_flow_control_window(connection_window - DEFAULT_WINDOW)

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
            for frame in self._gate.feed(data):
                if isinstance(frame, GoAwayReceived):
                    events.append(frame)
                else:
                    for event in self._h2.receive_data(frame):
                        self._translate(event, events)
        except RemoteProtocolError as error:
            self.close(error.code)
            raise
        except h2.exceptions.ProtocolError as error:
            self._shut()  # h2 has queued the GOAWAY itself
            message = f"the peer broke HTTP/2: {error}"
            raise RemoteProtocolError(message, code=int(error.error_code)) from error
        return events

    def _translate(self, event: h2.events.Event, events: list[Event]) -> None:
        match event:
            case h2.events.DataReceived():
                self._data_received(event, events)
            case h2.events.RequestReceived():
                headers = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
                self._request_received(event.stream_id or 0, headers, events)
            case h2.events.StreamEnded():
                if (stream := self._streams.get(event.stream_id or 0)) is not None:
                    stream.ended = True
                    events.append(StreamEnded(event.stream_id or 0))
            case h2.events.StreamReset():
                if self._forget(event.stream_id or 0):
                    events.append(StreamResetReceived(event.stream_id or 0, int(event.error_code or 0)))
            case h2.events.WindowUpdated():
                self._window_updated(event.stream_id or 0)
            case h2.events.RemoteSettingsChanged():
                self._settings_changed()
            case _:
                pass  # acknowledgements and PINGs: answered by h2; trailers of a request mean nothing in gRPC

    def _data_received(self, event: h2.events.DataReceived, events: list[Event]) -> None:
        stream_id, data = event.stream_id or 0, bytes(event.data or b"")
        length = event.flow_controlled_length or 0
        self._credit_connection(length)
        if length > len(data):  # padding is consumed here
            self.consumed(stream_id, length - len(data))
        if data:
            events.append(DataReceived(stream_id, data))

    def _request_received(self, stream_id: int, headers: Headers, events: list[Event]) -> None:
        """Open a stream, or refuse it alone: RFC 9113, sections 5.1.2 and 8.1.1."""
        if len(self._streams) >= self._max_streams:
            self._h2.reset_stream(stream_id, REFUSED_STREAM)
        elif request_fault(headers) is not None:
            self._h2.reset_stream(stream_id, PROTOCOL_ERROR)
        else:
            self._streams[stream_id] = _Stream()
            events.append(StreamOpened(stream_id, headers))

    def consumed(self, stream_id: int, size: int) -> None:
        """Say that ``size`` bytes of a stream were read, so that the peer may send as many again."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.ended:
            return
        stream.owed += size
        if stream.owed >= self._stream_credit_at:
            self._h2.increment_flow_control_window(stream.owed, stream_id)
            stream.owed = 0

    def _credit_connection(self, size: int) -> None:
        self._connection_owed += size
        if self._connection_owed >= self._connection_credit_at:
            self._h2.increment_flow_control_window(self._connection_owed)
            self._connection_owed = 0

    def _window_updated(self, stream_id: int) -> None:
        if stream_id:
            self._make_ready(stream_id)
        else:
            # Those that waited come first, in their order: else the lowest stream would take every small update.
            self._parked.update(self._ready)
            self._ready, self._parked = self._parked, OrderedDict()

    def _settings_changed(self) -> None:
        encoder = self._h2.encoder
        encoder.header_table_size = min(encoder.header_table_size, HEADER_TABLE)
        # Until the next header block hpack queues every change of the table's size, and forgets them all when a size
        # is set again; what must be said then is the smallest and the last (RFC 7541, section 4.2).
        if len(sizes := encoder.table_size_changes) > 2:
            sizes[:] = [min(sizes), sizes[-1]]
        encoder.header_table.resized = bool(sizes)
        for stream_id in self._streams:
            self._make_ready(stream_id)

    # -- sent direction -----------------------------------------------------------------------------------------

    def send_headers(self, stream_id: int, headers: Headers) -> None:
        """Send the headers of a response, once. They leave at once, ahead of all DATA."""
        if stream_id in self._streams:
            self._h2.send_headers(stream_id, headers)

    def send_data(self, stream_id: int, data: bytes | bytearray | memoryview) -> None:
        """Queue payload; it leaves as the windows allow. The caller bounds the queue by :meth:`queued`."""
        if (stream := self._streams.get(stream_id)) is not None:
            stream.unsent += data
            self._make_ready(stream_id)

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """Queue the last headers of a response behind its DATA and end the stream.

        Where the peer has not ended its side, RST_STREAM(NO_ERROR) follows: it may stop sending.

        Source: RFC 9113, section 8.1.
        """
        if (stream := self._streams.get(stream_id)) is not None:
            stream.trailers = headers
            self._make_ready(stream_id)

    def reset_stream(self, stream_id: int, code: int) -> None:
        """End a stream at once; what it had queued is dropped."""
        if self._forget(stream_id):
            self._h2.reset_stream(stream_id, code)

    def close(self, code: int = NO_ERROR) -> None:
        """Queue GOAWAY. Nothing else can be sent afterwards; what streams had queued is dropped."""
        if not self._closed:
            self._shut()
            self._h2.close_connection(code)

    def queued(self, stream_id: int) -> int:
        """Bytes of a stream that wait to be sent."""
        stream = self._streams.get(stream_id)
        return len(stream.unsent) if stream is not None else 0

    def is_open(self, stream_id: int) -> bool:
        """Whether something may still be sent on a stream."""
        return stream_id in self._streams

    def advanced(self) -> set[int]:
        """The streams that sent something since the last call, those that have ended by it included."""
        advanced, self._advanced = self._advanced, set()
        return advanced

    def data_to_send(self, limit: int) -> bytes:
        """Return bytes for the wire: control frames whole, then about ``limit`` bytes of DATA at most."""
        budget = limit
        while budget > 0 and self._ready:
            stream_id, _ = self._ready.popitem(last=False)
            budget -= self._send_one(stream_id)
        return self._h2.data_to_send()

    def _send_one(self, stream_id: int) -> int:
        """Emit one frame of a stream and queue it for the next; return the frame's cost in bytes, 0 for no frame."""
        stream = self._streams[stream_id]
        if not stream.unsent:
            return self._finish(stream_id, stream)
        if self._h2.outbound_flow_control_window <= 0:
            self._parked[stream_id] = None
            return 0
        window = self._h2.local_flow_control_window(stream_id)
        size = min(len(stream.unsent), window, self._h2.max_outbound_frame_size, MAX_FRAME_SENT)
        if size <= 0:
            return 0
        with memoryview(stream.unsent) as view:
            self._h2.send_data(stream_id, bytes(view[:size]))
        del stream.unsent[:size]
        self._advanced.add(stream_id)
        self._make_ready(stream_id)
        return size

    def _finish(self, stream_id: int, stream: _Stream) -> int:
        if stream.trailers is None:
            return 0
        self._h2.send_headers(stream_id, stream.trailers, end_stream=True)
        if not stream.ended:
            self._h2.reset_stream(stream_id, NO_ERROR)
        self._forget(stream_id)
        self._advanced.add(stream_id)
        return 1

    def _make_ready(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and (stream.unsent or stream.trailers is not None):
            self._ready[stream_id] = None

    # -- both ---------------------------------------------------------------------------------------------------

    def _forget(self, stream_id: int) -> bool:
        """Drop an open stream; returns whether there was one."""
        self._ready.pop(stream_id, None)
        self._parked.pop(stream_id, None)
        return self._streams.pop(stream_id, None) is not None

    def _shut(self) -> None:
        self._closed = True
        self._streams.clear()
        self._ready.clear()
        self._parked.clear()


def _server_connection(stream_window: int, max_streams: int, max_header_list: int) -> h2.connection.H2Connection:
    """An ``h2`` connection that has announced our limits and leaves to us what it would end the connection over."""
    # What these switch off is the work of ``fields``, which says why.
    config = h2.config.H2Configuration(
        client_side=False, header_encoding=None, validate_inbound_headers=False, normalize_inbound_headers=False
    )
    codes = h2.settings.SettingCodes
    limits = {
        codes.INITIAL_WINDOW_SIZE: stream_window,
        codes.MAX_HEADER_LIST_SIZE: max_header_list,
        codes.MAX_FRAME_SIZE: MAX_FRAME,
    }
    announced = {**limits, codes.MAX_CONCURRENT_STREAMS: max_streams}
    connection = h2.connection.H2Connection(config)
    connection.local_settings = h2.settings.Settings(client=False, initial_values=announced)
    connection.initiate_connection()
    # From here on h2 counts no streams: it would end the connection over one too many.
    connection.local_settings = h2.settings.Settings(client=False, initial_values=limits)
    # The setting is only what we announce; the decoder has a limit of its own (64 KiB unless told).
    connection.decoder.max_header_list_size = max_header_list
    connection.receive_data(PREFACE)  # the gate takes the real one
    return connection
