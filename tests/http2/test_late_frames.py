"""Frames that cross with the end of their stream: normal traffic, whoever ended it."""

from __future__ import annotations

import h2.events
import pytest
from scripted_peer import h2_client, request
from tricky_cases import tricky

from buildkit_session.http2.core import Core
from buildkit_session.http2.events import StreamOpened

OK = [(b":status", b"200")]
DONE = [(b"grpc-status", b"0")]


def frame(kind: int, payload: bytes, *, flags: int = 0, stream_id: int = 1) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


LATE = {
    "RST_STREAM(NO_ERROR)": frame(3, bytes(4)),
    "RST_STREAM(CANCEL)": frame(3, b"\0\0\0\x08"),
    "DATA": frame(0, b"late"),
    "DATA with END_STREAM": frame(0, b"", flags=1),
    "DATA, then RST_STREAM": frame(0, b"late") + frame(3, bytes(4)),
    "WINDOW_UPDATE": frame(8, b"\0\0\0\x01"),
}


@tricky(39)
@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
@pytest.mark.parametrize("by", ["trailers", "reset"])
def test_late_frames_are_not_even_told_of(late: bytes, by: str) -> None:
    """They make no event and no GOAWAY, and the next call is served; grpc-go sends RST_STREAM for early trailers."""
    core, client = Core(), h2_client()
    client.initiate_connection()
    client.send_headers(1, request())
    core.receive_data(client.data_to_send())
    if by == "trailers":
        core.send_trailers(1, OK + DONE)
    else:
        core.reset_stream(1, 8)
    seen = client.receive_data(b"".join(core.data_to_send(1 << 16)))

    assert core.receive_data(late) == []

    client.send_headers(3, request(), end_stream=True)
    assert [type(event) for event in core.receive_data(client.data_to_send())][:1] == [StreamOpened]
    core.send_trailers(3, OK + DONE)
    seen += client.receive_data(b"".join(core.data_to_send(1 << 16)))
    assert not any(isinstance(event, h2.events.ConnectionTerminated) for event in seen)
    assert any(isinstance(event, h2.events.StreamEnded) and event.stream_id == 3 for event in seen)
