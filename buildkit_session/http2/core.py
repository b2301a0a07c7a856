"""The HTTP/2 connection as a pure state machine: bytes in, events out; commands in, buffers out.

Does no input or output and never waits. The caller, after every call, writes what :meth:`Core.data_to_send` returns.

``h2`` owns the state of connection and streams, header compression, SETTINGS and RST_STREAM. It never sees payload,
nor a window move: DATA and WINDOW_UPDATE are most of what a transfer consists of, and what ``h2`` does for
one frame costs more than everything else here together. These two are dealt with beside it, in
:mod:`~buildkit_session.http2.credit` for what is received and in :mod:`~buildkit_session.http2.outbox` for what is
sent. Where such a frame says something about the state of a stream (its end, or that the stream is not open), ``h2``
is given the same frame without payload and judges it.

What ``h2`` emits by itself (answers to SETTINGS, resets), answers to PING and window updates always leave before DATA.

Source: RFC 9113.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.http2.credit import Credit
from buildkit_session.http2.events import (
    DataReceived,
    Event,
    Headers,
    StreamEnded,
    StreamOpened,
    StreamResetReceived,
)
from buildkit_session.http2.fields import request_fault
from buildkit_session.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    GOAWAY,
    HEADER,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    PING_SIZE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Run,
    frame_header,
    unpadded,
    window_update,
)
from buildkit_session.http2.gate import PREFACE, FrameGate, known_settings, parse_goaway
from buildkit_session.http2.header_block import HeaderBlock
from buildkit_session.http2.header_decoder import HeaderDecoder
from buildkit_session.http2.outbox import DEFAULT_WINDOW, Outbox

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.http2.frames import Buffer, Frame

__all__ = ["NO_ERROR", "Core"]

MAX_FRAME: Final = 16384
"""Largest frame payload we accept, in bytes: HTTP/2's default, which grpc-go never exceeds."""

LARGEST_FRAME: Final = 2**24 - 1

MAX_FRAME_SENT: Final = 64 * 1024
"""Largest DATA frame we send where the peer accepts more, in bytes: streams take turns frame by frame."""

STREAM_WINDOW: Final = 256 * 1024
CONNECTION_WINDOW: Final = 4 * 1024 * 1024

MAX_STREAMS: Final = 250
"""As buildx announces. Health checks share this number with transfers, so it is never small."""

MAX_HEADER_LIST: Final = 4 * 1024 * 1024
"""Bytes, counted as RFC 9113 section 6.5.2 says. The patterns of a .dockerignore arrive as header fields."""

HEADER_TABLE: Final = 4096
"""Bytes of sent fields remembered for compression at most: HTTP/2's default, whatever the peer would allow."""


class Core:
    """One HTTP/2 connection in the server role; :class:`~buildkit_session.http2.client_core.ClientCore` is the other.

    Commands on a stream that is already closed do nothing: late frames are normal traffic.

    Args:
        stream_window: bytes that a peer may send on a new stream before they are consumed.
        connection_window: bytes in flight on the whole connection; more than HTTP/2's default of 65,535.
        max_streams: streams the peer may have open at once; one above is refused, the others go on.
        max_header_list: largest decoded header list, in bytes.

    Attributes:
        frames: how many frames became whole with the last bytes received; each costs its time, however small.
    """

    _is_server = True

    def __init__(
        self,
        *,
        stream_window: int = STREAM_WINDOW,
        connection_window: int = CONNECTION_WINDOW,
        max_streams: int = MAX_STREAMS,
        max_header_list: int = MAX_HEADER_LIST,
    ) -> None:
        self._gate = FrameGate(max_frame=MAX_FRAME, expect_preface=self._is_server)
        self.frames = 0
        self._max_streams = max_streams
        self._streams: set[int] = set()  # open to us: we may still send
        self._credit = Credit(stream_window=stream_window, connection_window=connection_window)
        self._outbox = Outbox(max_frame=MAX_FRAME)
        self._block = HeaderBlock(limit=max_header_list)
        self._closed = False
        self._h2 = _h2_connection(stream_window, max_streams, max_header_list, is_server=self._is_server)
        self._control: list[Buffer] = [
            self._h2.data_to_send(),
            window_update(connection_window - DEFAULT_WINDOW, 0),
        ]

    # -- received direction -------------------------------------------------------------------------------------

    def receive_data(self, data: Buffer) -> list[Event]:
        """Take bytes from the peer and return what they mean. Payload that is returned may refer to ``data``.

        Raises:
            RemoteProtocolError: the peer broke HTTP/2. A GOAWAY that says so waits in :meth:`data_to_send`;
                the connection must then be closed.
        """
        if self._closed:
            return []
        arrived: list[Event] = []
        self.frames = 0
        try:
            for frame in self._gate.feed(data):
                if isinstance(frame, Run):
                    self.frames += len(frame.pieces)
                    self._run(frame, arrived)
                else:
                    self.frames += 1
                    self._frame(frame, arrived)
        except RemoteProtocolError as error:
            self.close(error.code)
            raise
        except h2.exceptions.ProtocolError as error:
            self._shut()  # h2 has queued the GOAWAY itself
            message = f"the peer broke HTTP/2: {error}"
            raise RemoteProtocolError(message, code=int(error.error_code)) from error
        return arrived

    def _run(self, run: Run, arrived: list[Event]) -> None:
        if self._block.is_open:
            self._block.refuse()
        self._payload(run.stream_id, run.pieces, arrived)

    def _payload(self, stream_id: int, pieces: list[memoryview], arrived: list[Event]) -> None:
        """Take frames that bring payload and change nothing else, all in one."""
        if not self._credit.is_given(stream_id):
            for piece in pieces:
                self._payload_of_none(stream_id, len(piece), 0, arrived)
            return
        size = sum(map(len, pieces))
        self._credit.received(stream_id, size)
        if size:
            arrived.append(DataReceived(stream_id, pieces))

    def _payload_of_none(self, stream_id: int, size: int, flags: int, arrived: list[Event]) -> None:
        """Take a frame of a stream that has ended, or never was."""
        self._credit.received_by_connection(size)
        self._judge(frame_header(0, DATA, flags & END_STREAM, stream_id), arrived)

    def _frame(self, frame: Frame, arrived: list[Event]) -> None:
        if self._block.is_open:
            if (block := self._block.continue_with(frame)) is not None:
                self._judge(block, arrived)
        elif frame[0] == DATA:
            self._data_frame(frame, arrived)
        else:
            self._other_frame(frame, arrived)

    def _data_frame(self, frame: Frame, arrived: list[Event]) -> None:
        _, flags, stream_id, wire = frame
        size = len(wire) - HEADER
        if not self._credit.is_given(stream_id):
            self._payload_of_none(stream_id, size, flags, arrived)
            return
        payload = wire[HEADER:]
        self._credit.received(stream_id, size)
        if flags & PADDED:
            payload = unpadded(payload)
            self._credit.consumed(stream_id, size - len(payload))
        if payload:
            arrived.append(DataReceived(stream_id, (payload,)))
        if flags & END_STREAM:
            # As trailers without fields, not as DATA: h2 compares what it has seen of that with a content-length.
            self._judge(frame_header(0, HEADERS, END_STREAM | END_HEADERS, stream_id), arrived)

    def _other_frame(self, frame: Frame, arrived: list[Event]) -> None:
        kind, flags, stream_id, wire = frame
        if self._block.begins_with(frame):
            return
        if kind == PING and len(wire) == HEADER + PING_SIZE and not stream_id:
            # grpc-go measures with these how fast its transfers go: thousands of them, each of which h2 would take for
            # as long as a hundred frames of payload.
            if not flags & ACK:
                self._control.append(frame_header(PING_SIZE, PING, ACK, 0) + wire[HEADER:])
        elif kind == GOAWAY:
            arrived.append(parse_goaway(bytes(wire)))
        elif kind == SETTINGS:
            self._judge(known_settings(bytes(wire)), arrived)
        elif kind != WINDOW_UPDATE or not self._window_update(stream_id, wire, arrived):
            self._judge(bytes(wire), arrived)

    def _window_update(self, stream_id: int, wire: memoryview, arrived: list[Event]) -> bool:
        """Take a well-formed update of an open window; returns whether it was one."""
        increment = int.from_bytes(wire[HEADER:], "big") & 0x7FFFFFFF
        if len(wire) != HEADER + 4 or not increment or (stream_id and stream_id not in self._streams):
            return False
        if not stream_id:
            _require_window(self._outbox.widen_connection(increment))
        elif not self._outbox.widen(stream_id, increment):
            self.reset_stream(stream_id, FLOW_CONTROL_ERROR)
            arrived.append(StreamResetReceived(stream_id, FLOW_CONTROL_ERROR, by="library"))
        return True

    def _judge(self, wire: bytes, arrived: list[Event]) -> None:
        """Let h2 take a frame."""
        for event in self._h2.receive_data(wire):
            self._translate(event, arrived)

    def _translate(self, event: h2.events.Event, arrived: list[Event]) -> None:
        match event:
            case h2.events.RequestReceived():
                headers = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
                self._request_received(event.stream_id or 0, headers, arrived)
            case h2.events.StreamEnded():
                stream_id = event.stream_id or 0
                if self._credit.is_given(stream_id):
                    self._credit.end(stream_id)
                    arrived.append(StreamEnded(stream_id))
            case h2.events.StreamReset():
                if self._forget(event.stream_id or 0):
                    arrived.append(StreamResetReceived(event.stream_id or 0, int(event.error_code or 0)))
            case h2.events.RemoteSettingsChanged():
                self._settings_changed()
            case _:
                pass  # acknowledgements; trailers of a request mean nothing in gRPC

    def _request_received(self, stream_id: int, headers: Headers, arrived: list[Event]) -> None:
        """Open a stream, or refuse it alone: RFC 9113, sections 5.1.2 and 8.1.1."""
        if len(self._streams) >= self._max_streams:
            self._h2.reset_stream(stream_id, REFUSED_STREAM)
        elif request_fault(headers) is not None:
            self._h2.reset_stream(stream_id, PROTOCOL_ERROR)
        else:
            self._streams.add(stream_id)
            self._credit.open(stream_id)
            self._outbox.open(stream_id)
            arrived.append(StreamOpened(stream_id, headers))

    def consumed(self, stream_id: int, size: int) -> None:
        """Say that ``size`` bytes of a stream were read, so that the peer may send as many again."""
        self._credit.consumed(stream_id, size)

    def _settings_changed(self) -> None:
        encoder = self._h2.encoder
        encoder.header_table_size = min(encoder.header_table_size, HEADER_TABLE)
        # Until the next header block hpack queues every change of the table's size, and forgets them all when a size
        # is set again; what must be said then is the smallest and the last (RFC 7541, section 4.2).
        if len(sizes := encoder.table_size_changes) > 2:
            sizes[:] = [min(sizes), sizes[-1]]
        encoder.header_table.resized = bool(sizes)
        self._outbox.max_frame = min(self._h2.max_outbound_frame_size, MAX_FRAME_SENT)
        _require_window(self._outbox.set_initial_window(self._h2.remote_settings.initial_window_size))

    # -- sent direction -----------------------------------------------------------------------------------------

    def send_headers(self, stream_id: int, headers: Headers) -> None:
        """Send the headers of a response, once. They leave at once, ahead of all DATA."""
        if stream_id in self._streams:
            self._h2.send_headers(stream_id, headers)

    def send_data(self, stream_id: int, pieces: Iterable[Buffer]) -> None:
        """Queue payload; it leaves as the windows allow, and must not change before.

        The caller bounds the queue by :meth:`queued`.
        """
        if stream_id in self._streams:
            self._outbox.put(stream_id, pieces)

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """Queue the last headers of a response behind its DATA and end the stream.

        Where the peer has not ended its side, RST_STREAM(NO_ERROR) follows: it may stop sending.

        Source: RFC 9113, section 8.1.
        """
        if stream_id in self._streams:
            self._outbox.finish(stream_id, headers)

    def reset_stream(self, stream_id: int, code: int) -> None:
        """End a stream at once; what it had queued is dropped."""
        if self._forget(stream_id):
            self._h2.reset_stream(stream_id, code)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        if not self._closed:
            self._h2.ping(bytes(8))

    def close(self, code: int = NO_ERROR) -> None:
        """Queue GOAWAY. Nothing else can be sent afterwards; what streams had queued is dropped."""
        if not self._closed:
            self._shut()
            self._h2.close_connection(code)

    def queued(self, stream_id: int) -> int:
        """Bytes of a stream that wait to be sent."""
        return self._outbox.queued(stream_id)

    def is_open(self, stream_id: int) -> bool:
        """Whether something may still be sent on a stream."""
        return stream_id in self._streams

    def advanced(self) -> set[int]:
        """The streams that sent something since the last call, those that have ended by it included."""
        return self._outbox.advanced()

    def data_to_send(self, limit: int) -> list[Buffer]:
        """Return buffers for the wire: control frames whole, then about ``limit`` bytes of DATA at most.

        They refer to what was given to :meth:`send_data`.
        """
        out = self._control_frames()
        for stream_id, trailers in self._outbox.emit(limit, out):
            self._finish(stream_id, trailers)
            out += self._control_frames()
        return out

    def _control_frames(self) -> list[Buffer]:
        out, self._control = self._control, []
        if data := self._h2.data_to_send():
            out.append(data)
        out += self._credit.updates()
        return out

    def _finish(self, stream_id: int, trailers: Headers) -> None:
        self._h2.send_headers(stream_id, trailers, end_stream=True)
        if self._credit.is_given(stream_id):
            self._h2.reset_stream(stream_id, NO_ERROR)
        self._forget(stream_id)

    # -- both ---------------------------------------------------------------------------------------------------

    def _forget(self, stream_id: int) -> bool:
        """Drop an open stream; returns whether there was one."""
        if stream_id not in self._streams:
            return False
        self._streams.discard(stream_id)
        self._credit.drop(stream_id)
        self._outbox.drop(stream_id)
        return True

    def _shut(self) -> None:
        self._closed = True
        self._streams.clear()
        self._credit.clear()
        self._outbox.clear()


def _require_window(is_allowed: bool) -> None:
    if not is_allowed:
        raise RemoteProtocolError("the peer raised a window above 2**31-1 bytes", code=FLOW_CONTROL_ERROR)


def _h2_connection(
    stream_window: int, max_streams: int, max_header_list: int, *, is_server: bool
) -> h2.connection.H2Connection:
    """An ``h2`` connection that has announced our limits and leaves to us what it would end the connection over."""
    # What these switch off is the work of ``fields``, which says why.
    config = h2.config.H2Configuration(
        client_side=not is_server,
        header_encoding=None,
        validate_inbound_headers=False,
        normalize_inbound_headers=False,
        validate_outbound_headers=is_server,
        normalize_outbound_headers=is_server,
    )
    codes = h2.settings.SettingCodes
    limits = {
        codes.INITIAL_WINDOW_SIZE: stream_window,
        codes.MAX_HEADER_LIST_SIZE: max_header_list,
        codes.MAX_FRAME_SIZE: MAX_FRAME,
    }
    # A server says how many streams it takes, a client that nothing may be pushed to it.
    announced = limits | ({codes.MAX_CONCURRENT_STREAMS: max_streams} if is_server else {codes.ENABLE_PUSH: 0})
    connection = h2.connection.H2Connection(config)
    connection.local_settings = h2.settings.Settings(client=not is_server, initial_values=announced)
    connection.initiate_connection()
    if is_server:
        # From here on h2 counts no streams: it would end the connection over one too many.
        connection.local_settings = h2.settings.Settings(client=False, initial_values=limits)
        connection.receive_data(PREFACE)  # the gate takes the real one
    # Nor does it look at lengths: the gate did, and a joined header block is longer than any frame may be.
    connection.max_inbound_frame_size = LARGEST_FRAME
    # The setting is only what we announce; the decoder has a limit of its own (64 KiB unless told).
    decoder = HeaderDecoder()
    decoder.max_header_list_size = max_header_list
    decoder.max_allowed_table_size = connection.decoder.max_allowed_table_size
    connection.decoder = decoder
    return connection
