"""The state machine, fed bytes and read bytes; the other side is ``h2`` in the client role."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import h2.connection
import h2.events
import h2.exceptions
import pytest
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_peer import h2_client, request
from tricky_cases import tricky

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.http2.core import MAX_FRAME, Core
from buildkit_session.http2.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    Headers,
    StreamEnded,
    StreamOpened,
    StreamResetReceived,
)
from buildkit_session.http2.gate import PREFACE

if TYPE_CHECKING:
    from collections.abc import Iterable

OK: Headers = [(b":status", b"200")]
DONE: Headers = [(b"grpc-status", b"0")]
CANCEL = 8


def wire(core: Core, limit: int) -> bytes:
    return b"".join(core.data_to_send(limit))


class Pair:
    """A core and a client with no transport between; :meth:`exchange` carries all bytes both ways."""

    def __init__(self, core: Core | None = None) -> None:
        self.core = core if core is not None else Core()
        self.client = h2_client()
        self.client.initiate_connection()
        self.client_events: list[h2.events.Event] = []
        self.exchange()

    def exchange(self, *, limit: int = 1 << 16) -> list[Event]:
        events: list[Event] = []
        while True:
            up = self.client.data_to_send()
            events += self.core.receive_data(up)
            down = wire(self.core, limit)
            if not up and not down:
                return events
            self.client_events += self.client.receive_data(down)

    def open(self, headers: Headers | None = None, *, end: bool = False) -> int:
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, headers or request(), end_stream=end)
        self.exchange()
        return stream_id

    def received(self, stream_id: int) -> bytes:
        """Payload that the client has got on a stream; it gives no credit back."""
        data = [e for e in self.client_events if isinstance(e, h2.events.DataReceived) and e.stream_id == stream_id]
        return b"".join(event.data or b"" for event in data)

    def resets(self) -> dict[int, int]:
        return {
            event.stream_id or 0: int(event.error_code or 0)
            for event in self.client_events
            if isinstance(event, h2.events.StreamReset)
        }


# -- what a peer sends becomes events -----------------------------------------------------------------------------


def a_call() -> bytes:
    """What a client sends for one call, padding, PING and a window update among it."""
    client = h2_client()
    client.initiate_connection()
    client.send_headers(1, request())
    client.send_data(1, b"first", pad_length=9)
    client.ping(b"12345678")
    client.send_data(1, b"second", end_stream=True)
    client.increment_flow_control_window(7)
    client.close_connection(0, b"bye", last_stream_id=0)
    return client.data_to_send()


CALL = a_call()
CALL_EVENTS = [
    StreamOpened(1, request()),
    DataReceived(1, (b"firstsecond",)),
    StreamEnded(1),
    GoAwayReceived(0, 0, b"bye"),
]


def merged(events: Iterable[Event]) -> list[Event]:
    """Events without the cuts that payload happened to arrive in."""
    out: list[Event] = []
    for event in events:
        if out and isinstance(event, DataReceived) and isinstance(last := out[-1], DataReceived):
            assert last.stream_id == event.stream_id
            out[-1] = DataReceived(event.stream_id, (*last.pieces, *event.pieces))
        else:
            out.append(event)
    return out


def test_whole() -> None:
    assert merged(Core().receive_data(CALL)) == CALL_EVENTS


def test_byte_by_byte() -> None:
    core = Core()

    assert merged(event for byte in CALL for event in core.receive_data(bytes((byte,)))) == CALL_EVENTS


def test_trailing_bytes() -> None:
    core = Core()

    assert merged(core.receive_data(CALL + b"\0\0")) == CALL_EVENTS
    assert core.receive_data(b"") == []


@given(st.lists(st.integers(0, len(CALL)), max_size=8))
def test_any_cuts(cuts: list[int]) -> None:
    core = Core()

    pieces = [CALL[start:end] for start, end in pairwise([0, *sorted(cuts), len(CALL)])]

    assert merged(event for piece in pieces for event in core.receive_data(memoryview(piece))) == CALL_EVENTS


def frames_of(data: bytes) -> list[bytes]:
    frames, position = [], len(PREFACE)
    while position < len(data):
        end = position + 9 + int.from_bytes(data[position : position + 3], "big")
        frames.append(data[position:end])
        position = end
    return frames


@st.composite
def hostile_bytes(draw: st.DrawFn) -> bytes:
    """Frames of a real call, repeated, reordered, with single bytes changed; then perhaps noise."""
    frames = draw(st.lists(st.sampled_from(frames_of(CALL)), max_size=12))
    data = bytearray(PREFACE + b"".join(frames))
    for position in draw(st.lists(st.integers(len(PREFACE), max(len(PREFACE), len(data) - 1)), max_size=4)):
        if position < len(data):
            data[position] = draw(st.integers(0, 255))
    kinds = draw(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 255), st.integers(0, 5)), max_size=4))
    for kind, flags, stream_id in kinds:
        payload = draw(st.binary(max_size=20))
        data += len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload
    return bytes(data)


@settings(max_examples=400)
@given(hostile_bytes())
def test_hostile_bytes(data: bytes) -> None:
    """Whatever arrives, nothing is raised but the remote error; commands go on doing what they can, or nothing."""
    core = Core(stream_window=64, connection_window=65536 + 64)
    failed = False
    for start in range(0, len(data), 50):
        try:
            for event in core.receive_data(data[start : start + 50]):
                if isinstance(event, StreamOpened):
                    core.send_headers(event.stream_id, OK)
                    core.send_data(event.stream_id, [b"x" * 100])
                elif isinstance(event, DataReceived):
                    core.consumed(event.stream_id, len(event.data))
                elif isinstance(event, StreamEnded):
                    core.send_trailers(event.stream_id, DONE)
        except RemoteProtocolError:
            assert not failed, "a closed connection takes no more bytes"
            failed = True
        wire(core, 1 << 16)
    for stream_id in (1, 3, 5):
        core.reset_stream(stream_id, CANCEL)
        core.send_data(stream_id, [b"late"])
    core.close()
    wire(core, 1 << 16)


def test_broken_http2_is_answered_with_goaway() -> None:
    """The peer is told the code; then nothing is taken from it any more."""
    pair = Pair()

    with pytest.raises(RemoteProtocolError) as caught:
        pair.core.receive_data(b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0")  # a window update by nothing

    [event] = pair.client.receive_data(wire(pair.core, 0))
    assert isinstance(event, h2.events.ConnectionTerminated)
    assert event.error_code == caught.value.code
    assert pair.core.receive_data(b"anything") == []


def test_oversize_frame_is_answered_with_goaway() -> None:
    """HF-05: FRAME_SIZE_ERROR on the header of the frame."""
    pair = Pair()

    with pytest.raises(RemoteProtocolError):
        pair.core.receive_data((MAX_FRAME + 1).to_bytes(3, "big") + b"\0\0\0\0\0\x01")

    [event] = pair.client.receive_data(wire(pair.core, 0))
    assert isinstance(event, h2.events.ConnectionTerminated)
    assert event.error_code == 6


def test_unknown_frames_and_settings_are_ignored() -> None:
    """HF-10."""
    pair = Pair()
    unknown = b"\0\0\x03\xfa\xff\0\0\0\0abc" + b"\0\0\x06\x04\0\0\0\0\0\xff\x00\0\0\0\x01"

    assert pair.core.receive_data(unknown) == []
    assert pair.open() == 1


@pytest.mark.parametrize("kind", [0, 8])
def test_frames_on_idle_streams(kind: int) -> None:
    """HF-06."""
    pair = Pair()

    with pytest.raises(RemoteProtocolError):
        pair.core.receive_data(b"\0\0\x04" + bytes((kind, 0)) + b"\0\0\0\x09\0\0\0\x01")


def test_push_promise() -> None:
    """HF-11: a client cannot push."""
    pair = Pair()
    pair.open()

    with pytest.raises(RemoteProtocolError):
        pair.core.receive_data(b"\0\0\x05\x05\x04\0\0\0\x01\0\0\0\x02\x82")


# -- requests -----------------------------------------------------------------------------------------------------


def test_one_stream_too_many_is_refused_alone() -> None:
    """HF-13: the streams that are open go on, and the next one is taken when one of them has ended."""
    core = Core(max_streams=2)
    pair = Pair(core)
    pair.client.remote_settings = h2_client().remote_settings  # a client that has not read our settings yet
    first, second, third = pair.open(), pair.open(), pair.open()

    assert pair.resets() == {third: 7}
    core.send_headers(first, OK)
    core.send_trailers(first, DONE)
    pair.exchange()
    fourth = pair.open()
    assert core.is_open(second)
    assert core.is_open(fourth)


def test_refused_streams_leave_nothing_behind() -> None:
    """A flood of streams in one piece is refused one by one, and h2 keeps none of them."""
    core = Core(max_streams=1)
    pair = Pair(core)
    pair.client.remote_settings = h2_client().remote_settings
    for stream_id in range(1, 2001, 2):
        pair.client.send_headers(stream_id, request(), end_stream=True)

    opened = [event for event in pair.exchange() if isinstance(event, StreamOpened)]

    assert [event.stream_id for event in opened] == [1]
    assert len(pair.resets()) == 999
    assert len(core._h2.streams) <= 2


def test_malformed_request_is_reset_alone() -> None:
    """HF-14: PROTOCOL_ERROR for that stream, no event; the next one is served."""
    pair = Pair()
    bad = pair.open([*request(), (b"connection", b"close")])
    good = pair.open()

    assert pair.resets() == {bad: 1}
    assert not pair.core.is_open(bad)
    assert pair.core.is_open(good)


@tricky(9)
def test_values_with_outer_spaces() -> None:
    """grpc-go sends metadata verbatim."""
    pair = Pair()
    pair.client.send_headers(1, [*request(), (b"include-patterns", b" a ")])

    [opened] = pair.exchange()

    assert isinstance(opened, StreamOpened)
    assert opened.headers[-1] == (b"include-patterns", b" a ")


@tricky(8)
def test_many_patterns() -> None:
    """HP-05: 10,000 patterns of 90 bytes, more than 900 KiB, arrive in CONTINUATION frames."""
    pair = Pair()
    patterns = [
        (b"exclude-patterns", b"%05d" % number + b"/some/directory" * 5 + b"*.extension") for number in range(10000)
    ]
    pair.client.send_headers(1, [*request(), *patterns], end_stream=True)

    opened, ended = pair.exchange()

    assert isinstance(opened, StreamOpened)
    assert opened.headers[-10000:] == patterns
    assert ended == StreamEnded(1)


@tricky(39)
def test_reset_by_the_peer() -> None:
    """The code is told, what was queued is dropped, and commands do nothing any more."""
    pair = Pair()
    stream_id = pair.open()
    pair.core.send_headers(stream_id, OK)
    pair.core.send_data(stream_id, [b"x" * 100000])
    pair.exchange()
    pair.client.reset_stream(stream_id, CANCEL)

    assert pair.exchange() == [StreamResetReceived(stream_id, CANCEL)]
    assert pair.core.queued(stream_id) == 0
    assert_commands_do_nothing(pair, stream_id)


def assert_commands_do_nothing(pair: Pair, stream_id: int) -> None:
    pair.core.send_headers(stream_id, OK)
    pair.core.send_data(stream_id, [b"late"])
    pair.core.send_trailers(stream_id, DONE)
    pair.core.consumed(stream_id, 1 << 20)
    pair.core.reset_stream(stream_id, CANCEL)
    assert wire(pair.core, 1 << 16) == b""
    assert not pair.core.is_open(stream_id)


@tricky(39)
def test_commands_on_a_finished_stream() -> None:
    pair = Pair()
    stream_id = pair.open(end=True)
    pair.core.send_trailers(stream_id, OK + DONE)
    pair.exchange()

    assert_commands_do_nothing(pair, stream_id)


def test_commands_on_a_closed_connection() -> None:
    pair = Pair()
    stream_id = pair.open()
    pair.core.close()
    wire(pair.core, 0)

    assert_commands_do_nothing(pair, stream_id)
    pair.core.close()
    assert wire(pair.core, 0) == b""


def test_commands_on_a_stream_that_never_was() -> None:
    assert_commands_do_nothing(Pair(), 77)


@tricky(39)
def test_late_frames_after_our_reset() -> None:
    """FC-08: data that was under way is no fault, and its connection credit comes back."""
    core = Core(stream_window=1 << 20, connection_window=1 << 20)
    pair = Pair(core)
    stream_id = pair.open()
    core.reset_stream(stream_id, CANCEL)
    for _ in range(60):  # the client has not read the reset
        pair.client.send_data(stream_id, b"x" * 16384)
    assert pair.client.outbound_flow_control_window < 100_000

    assert pair.exchange() == []

    assert pair.client.outbound_flow_control_window > (1 << 20) // 2


def test_padding_before_a_reset_in_one_piece() -> None:
    """Credit for padding is due on a stream that ends in the same read: the connection survives it."""
    core = Core(stream_window=1024)
    pair = Pair(core)
    stream_id = pair.open()
    for _ in range(3):
        pair.client.send_data(stream_id, b"x", pad_length=255)
    pair.client.reset_stream(stream_id, CANCEL)

    events = pair.exchange()

    assert events[-1] == StreamResetReceived(stream_id, CANCEL)
    assert pair.open() == 3


def test_window_overflow_ends_that_stream() -> None:
    """FC-03: a window raised above 2**31-1 is a fault of the stream; h2 resets it and we hear of it."""
    pair = Pair()
    bad, good = pair.open(), pair.open()
    update = b"\0\0\x04\x08\0" + bad.to_bytes(4, "big") + (2**31 - 1).to_bytes(4, "big")

    assert pair.core.receive_data(update) == [StreamResetReceived(bad, 3, by="library")]
    assert not pair.core.is_open(bad)
    assert pair.core.is_open(good)


def test_goaway_leaves_streams_alive() -> None:
    """HF-15: live streams finish, PINGs are answered."""
    pair = Pair()
    stream_id = pair.open()
    goaway = b"\0\0\x08\x07\0\0\0\0\0" + (2**31 - 1).to_bytes(4, "big") + bytes(4)

    assert pair.core.receive_data(goaway) == [GoAwayReceived(0, 2**31 - 1, b"")]

    pair.client.send_data(stream_id, b"more", end_stream=True)
    pair.client.ping(b"12345678")
    assert pair.exchange() == [DataReceived(stream_id, (b"more",)), StreamEnded(stream_id)]
    pair.core.send_trailers(stream_id, OK + DONE)
    pair.exchange()
    assert {type(event) for event in pair.client_events} >= {h2.events.PingAckReceived, h2.events.StreamEnded}


# -- the window we give ---------------------------------------------------------------------------------------------


def test_unread_data_holds_its_stream_only() -> None:
    """A peer may send one window to a reader that stopped; the connection's window stays open for others."""
    pair = Pair(Core(stream_window=100_000, connection_window=200_000))
    stalled, lively = pair.open(), pair.open()
    for _ in range(6):
        pair.client.send_data(stalled, b"x" * 16384)
        pair.exchange()
    pair.client.send_data(stalled, b"x" * (100_000 - 6 * 16384))
    pair.exchange()

    assert pair.client.local_flow_control_window(stalled) == 0
    assert pair.client.local_flow_control_window(lively) == 100_000

    pair.core.consumed(stalled, 50_000)
    pair.exchange()
    assert pair.client.local_flow_control_window(stalled) == 50_000


def test_padding_is_credited() -> None:
    """FC-05: neither window shrinks for good."""
    pair = Pair(Core(stream_window=65535))
    stream_id = pair.open()
    for _ in range(2000):
        pair.client.send_data(stream_id, b"x", pad_length=255)
        for event in pair.exchange():
            assert isinstance(event, DataReceived)
            pair.core.consumed(stream_id, len(event.data))

    assert pair.client.local_flow_control_window(stream_id) > 65535 // 2 - 1000


def test_peer_that_overruns_a_window() -> None:
    """FC-04."""
    pair = Pair(Core(stream_window=65535))
    pair.open()
    frames = ((16384).to_bytes(3, "big") + b"\0\0\0\0\0\x01" + bytes(16384)) * 5

    with pytest.raises(RemoteProtocolError) as caught:
        pair.core.receive_data(frames)

    assert caught.value.code == 3


def test_connection_window_is_whole_again() -> None:
    """FC-07: thousands of streams that end with unread data, by trailers or by reset, cost no window."""
    core = Core(stream_window=65535, connection_window=1 << 20)
    pair = Pair(core)
    for number in range(3000):
        stream_id = pair.open()
        pair.client.send_data(stream_id, b"x" * 1000)
        pair.exchange()
        if number % 2:
            core.send_trailers(stream_id, OK + DONE)
        else:
            core.reset_stream(stream_id, CANCEL)
        pair.exchange()

    assert pair.client.outbound_flow_control_window >= (1 << 20) * 3 // 4
    assert not core._streams


# -- the window we are given ------------------------------------------------------------------------------------------


def test_data_waits_for_the_stream_window() -> None:
    """FC-01: with a window of nothing headers leave, data and trailers do not, until it opens."""
    pair = Pair()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    stream_id = pair.open()
    pair.core.send_headers(stream_id, OK)
    pair.core.send_data(stream_id, [b"payload"])
    pair.core.send_trailers(stream_id, DONE)
    pair.exchange()
    assert pair.received(stream_id) == b""
    assert pair.core.is_open(stream_id)

    pair.client.increment_flow_control_window(3, stream_id)
    pair.exchange()
    assert pair.received(stream_id) == b"pay"

    pair.client.increment_flow_control_window(100, stream_id)
    pair.exchange()
    assert pair.received(stream_id) == b"payload"
    assert not pair.core.is_open(stream_id)


def test_negative_window() -> None:
    """FC-02: a window below zero must rise above it before data leaves."""
    pair = Pair()
    stream_id = pair.open()
    pair.core.send_headers(stream_id, OK)
    pair.core.send_data(stream_id, [b"x" * 70000])
    pair.exchange()
    sent = len(pair.received(stream_id))
    assert sent == 65535
    pair.client.increment_flow_control_window(65535)  # the connection's

    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})  # the stream's is 1000 - 65535 now
    pair.exchange()
    pair.client.increment_flow_control_window(64535, stream_id)
    pair.exchange()
    assert len(pair.received(stream_id)) == sent

    pair.client.increment_flow_control_window(10, stream_id)
    pair.exchange()
    assert len(pair.received(stream_id)) == sent + 10

    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65535})
    pair.exchange()
    assert len(pair.received(stream_id)) == 70000


def test_window_raised_again_and_again() -> None:
    """FC-10."""
    pair = Pair()
    stream_id = pair.open()
    pair.client.increment_flow_control_window(1 << 20)
    pair.core.send_headers(stream_id, OK)
    pair.core.send_data(stream_id, [bytes(range(250)) * 800])
    for size in range(65535, 220_000, 10_000):
        pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: size})
        pair.exchange()

    assert pair.received(stream_id) == bytes(range(250)) * 800


def test_frame_size_changes() -> None:
    """FC-09: frames are as large as the peer allows, within what lets streams take turns."""
    pair = Pair()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    pair.client.increment_flow_control_window(1 << 20)
    stream_id = pair.open()
    pair.core.send_headers(stream_id, OK)
    payload = bytes(range(256)) * 1024
    for size in (16384, 1 << 20, 20000):
        pair.client.update_settings({SettingCodes.MAX_FRAME_SIZE: size})
        pair.exchange()
        pair.core.send_data(stream_id, [payload[:100_000]])
        pair.exchange()

    sizes = [len(event.data or b"") for event in pair.client_events if isinstance(event, h2.events.DataReceived)]
    assert pair.received(stream_id) == payload[:100_000] * 3
    assert sizes[:2] == [16384, 16384]
    assert 65536 in sizes
    assert sizes[-2:] == [20000, 20000]


def test_streams_take_turns() -> None:
    """One frame a stream, in turn, however many wait."""
    pair = Pair()
    streams = [pair.open() for _ in range(3)]
    for stream_id in streams:
        pair.core.send_headers(stream_id, OK)
        pair.core.send_data(stream_id, [b"x" * 40000])
    pair.exchange(limit=1)

    order = [event.stream_id for event in pair.client_events if isinstance(event, h2.events.DataReceived)]
    assert order[:4] == [1, 3, 5, 1]


def test_small_connection_updates_are_shared() -> None:
    """FC-11: the connection's window in small pieces goes to all that wait, not always to the oldest stream."""
    pair = Pair()
    streams = [pair.open() for _ in range(4)]
    for stream_id in streams:
        pair.core.send_headers(stream_id, OK)
        pair.core.send_data(stream_id, [b"x" * 60000])
    pair.exchange()
    before = {stream_id: len(pair.received(stream_id)) for stream_id in streams}

    for _ in range(40):
        pair.client.increment_flow_control_window(1000)
        pair.exchange()

    assert {len(pair.received(stream_id)) - before[stream_id] for stream_id in streams} == {10000}


def test_trailers_need_no_window() -> None:
    """A stream without payload ends while others wait for the connection's window."""
    pair = Pair()
    stalled, short = pair.open(), pair.open(end=True)
    pair.core.send_headers(stalled, OK)
    pair.core.send_data(stalled, [b"x" * 100_000])
    pair.exchange()
    assert pair.client.inbound_flow_control_window == 0

    pair.core.send_trailers(short, OK + DONE)
    pair.exchange()

    assert not pair.core.is_open(short)


def test_parked_streams_are_forgotten() -> None:
    """Streams that are reset while they wait for the connection's window leave nothing behind."""
    pair = Pair()
    pair.core.send_headers(first := pair.open(), OK)
    pair.core.send_data(first, [b"x" * 65535])
    pair.exchange()
    for _ in range(100):
        stream_id = pair.open()
        pair.core.send_headers(stream_id, OK)
        pair.core.send_data(stream_id, [b"x"])
        pair.exchange()
        pair.client.reset_stream(stream_id)
        pair.exchange()

    assert not pair.core._outbox._parked
    assert pair.core._streams == {first}


def test_early_end() -> None:
    """GR-15: trailers before the peer has ended its side are followed by RST_STREAM(NO_ERROR)."""
    pair = Pair()
    stream_id = pair.open()
    pair.core.send_trailers(stream_id, OK + DONE)
    pair.exchange()

    kinds = [type(event) for event in pair.client_events if getattr(event, "stream_id", None) == stream_id]
    assert kinds == [h2.events.ResponseReceived, h2.events.StreamEnded, h2.events.StreamReset]
    assert pair.resets() == {stream_id: 0}


def test_regular_end() -> None:
    """No reset follows where the peer has ended its side."""
    pair = Pair()
    stream_id = pair.open(end=True)
    pair.core.send_trailers(stream_id, OK + DONE)
    pair.exchange()

    assert pair.resets() == {}


def test_control_frames_overtake_data() -> None:
    """With no room for data the answer to a PING still leaves."""
    pair = Pair()
    stream_id = pair.open()
    pair.core.send_headers(stream_id, OK)
    pair.core.send_data(stream_id, [b"x" * 1000])
    pair.client.ping(b"12345678")
    pair.core.receive_data(pair.client.data_to_send())

    kinds = [type(event) for event in pair.client.receive_data(wire(pair.core, 0))]

    assert h2.events.PingAckReceived in kinds
    assert h2.events.DataReceived not in kinds


def test_table_size_changes() -> None:
    """Changes of the header table between two answers are told in a few bytes, and the peer still understands."""
    pair = Pair()
    first, second = pair.open(end=True), pair.open(end=True)
    pair.core.send_trailers(first, [*OK, (b"x", b"remembered")])
    pair.exchange()
    for size in [0, 0, 1 << 20] * 100:
        pair.core.receive_data(b"\0\0\x06\x04\0\0\0\0\0\0\x01" + size.to_bytes(4, "big"))
    wire(pair.core, 0)
    pair.client.decoder.max_allowed_table_size = 1 << 20

    pair.core.send_trailers(second, [*OK, (b"x", b"remembered")])
    answer = wire(pair.core, 1)

    assert len(answer) < 60
    assert any(isinstance(event, h2.events.ResponseReceived) for event in pair.client.receive_data(answer))
    assert pair.core._h2.encoder.header_table_size == 4096
