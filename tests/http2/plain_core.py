"""The plain path: HTTP/2 with every frame, payload and window in ``h2``, and no thought given to speed.

What :class:`buildkit_session.http2.core.Core` does beside ``h2`` must come to the same, see ``test_plain_path``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.errors
import h2.events

from buildkit_session.http2.events import DataReceived, Event, StreamEnded, StreamOpened, StreamResetReceived

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.http2.events import Headers
    from buildkit_session.http2.frames import Buffer


class _Stream:
    def __init__(self) -> None:
        self.unsent = b""
        self.trailers: Headers | None = None
        self.ended = False


class PlainCore:
    """The face of ``Core`` as far as a peer that keeps to the rules needs it."""

    def __init__(self) -> None:
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=False)
        )
        self._h2.initiate_connection()
        self._streams: dict[int, _Stream] = {}

    def receive_data(self, data: Buffer) -> list[Event]:
        return [out for event in self._h2.receive_data(bytes(data)) for out in self._translate(event)]

    def _translate(self, event: h2.events.Event) -> list[Event]:
        match event:
            case h2.events.RequestReceived(stream_id=int() as number):
                self._streams[number] = _Stream()
                return [StreamOpened(number, [(bytes(name), bytes(value)) for name, value in event.headers or ()])]
            case h2.events.DataReceived(stream_id=int() as number):
                if size := event.flow_controlled_length:
                    self._h2.acknowledge_received_data(size, number)
                return [DataReceived(number, (event.data,))] if event.data else []
            case h2.events.StreamEnded(stream_id=int() as number) if number in self._streams:
                self._streams[number].ended = True
                return [StreamEnded(number)]
            case h2.events.StreamReset(stream_id=int() as number) if self._streams.pop(number, None) is not None:
                return [StreamResetReceived(number, int(event.error_code or 0))]
            case _:
                return []

    def consumed(self, stream_id: int, size: int) -> None:
        """Credit was given on receipt already."""

    def send_headers(self, stream_id: int, headers: Headers) -> None:
        if stream_id in self._streams:
            self._h2.send_headers(stream_id, headers)

    def send_data(self, stream_id: int, pieces: Iterable[Buffer]) -> None:
        if (stream := self._streams.get(stream_id)) is not None:
            stream.unsent += b"".join(pieces)

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        if (stream := self._streams.get(stream_id)) is not None:
            stream.trailers = headers

    def reset_stream(self, stream_id: int, code: int) -> None:
        if self._streams.pop(stream_id, None) is not None:
            self._h2.reset_stream(stream_id, code)

    def data_to_send(self, _limit: int) -> list[Buffer]:
        for stream_id, stream in list(self._streams.items()):
            while stream.unsent:
                window = self._h2.local_flow_control_window(stream_id)
                size = min(window, len(stream.unsent), self._h2.max_outbound_frame_size)
                if size <= 0:
                    break
                self._h2.send_data(stream_id, stream.unsent[:size])
                stream.unsent = stream.unsent[size:]
            if not stream.unsent and stream.trailers is not None:
                self._h2.send_headers(stream_id, stream.trailers, end_stream=True)
                if not stream.ended:
                    self._h2.reset_stream(stream_id, h2.errors.ErrorCodes.NO_ERROR)
                del self._streams[stream_id]
        return [self._h2.data_to_send()]
