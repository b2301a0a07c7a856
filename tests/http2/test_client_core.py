"""The state machine of the side that asks, fed bytes and read bytes; a script is the server."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import h2.events
import pytest
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_peer import request
from scripted_server import (
    ACK,
    CONTINUATION,
    DATA,
    DONE,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    OK,
    PADDED,
    PING,
    PUSH_PROMISE,
    announcement,
    answer,
    block,
    data,
    frame,
    goaway,
    h2_server,
    headers,
    long_headers,
    reset,
    window,
)

from buildkit_session.errors import LocalProtocolError, RemoteProtocolError
from buildkit_session.http2.client_core import MAX_HEADER_LIST, ClientCore
from buildkit_session.http2.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    Headers,
    HeadersReceived,
    StreamEnded,
    StreamResetReceived,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NO_ERROR, PROTOCOL_ERROR, CANCEL = 0, 1, 8


def wire(core: ClientCore, limit: int = 1 << 16) -> bytes:
    return b"".join(core.data_to_send(limit))


class Pair:
    """A core, and a server that reads what it sends."""

    def __init__(self, core: ClientCore | None = None, announced: dict[SettingCodes, int] | None = None) -> None:
        self.core = core if core is not None else ClientCore()
        self.server = h2_server()
        self.server.initiate_connection()
        self.heard: list[h2.events.Event] = []
        self.say(announcement(announced))

    def say(self, *frames: bytes) -> list[Event]:
        """Have the core take frames; returns what they mean. What it answers is read by the server."""
        events = self.core.receive_data(b"".join(frames))
        self.read()
        return events

    def read(self, limit: int = 1 << 20) -> None:
        """Have the server read what the core has to send."""
        self.heard += self.server.receive_data(wire(self.core, limit))

    def open(self, fields: Headers | None = None, *, end: bool = True) -> int:
        stream_id = self.core.open_stream(fields or request())
        if end:
            self.core.end_stream(stream_id)
        self.read()
        return stream_id

    def of(self, kind: type[h2.events.Event]) -> list[h2.events.Event]:
        return [event for event in self.heard if isinstance(event, kind)]

    def resets(self) -> dict[int, int]:
        events = [event for event in self.heard if isinstance(event, h2.events.StreamReset)]
        return {event.stream_id or 0: int(event.error_code or 0) for event in events}

    def payload(self, stream_id: int) -> bytes:
        events = [e for e in self.heard if isinstance(e, h2.events.DataReceived) and e.stream_id == stream_id]
        return b"".join(event.data or b"" for event in events)

    def credit(self) -> int:
        """What the connection's window was widened by."""
        events = [e for e in self.heard if isinstance(e, h2.events.WindowUpdated) and not e.stream_id]
        return sum(event.delta or 0 for event in events)

    def has_ended(self, stream_id: int) -> bool:
        return any(isinstance(e, h2.events.StreamEnded) and e.stream_id == stream_id for e in self.heard)


def merged(events: Iterable[Event]) -> list[Event]:
    """Events without the cuts that payload happened to arrive in."""
    out: list[Event] = []
    for event in events:
        if out and isinstance(event, DataReceived) and isinstance(last := out[-1], DataReceived):
            out[-1] = DataReceived(event.stream_id, (last.data + event.data,))
        else:
            out.append(event)
    return out


# -- what is sent -------------------------------------------------------------------------------------------------


def test_preface_and_settings() -> None:
    """CL-07: nothing may be pushed. The limits announced are those that are kept to."""
    pair = Pair()

    [changed] = pair.of(h2.events.RemoteSettingsChanged)
    assert isinstance(changed, h2.events.RemoteSettingsChanged)
    values = {int(code): setting.new_value for code, setting in changed.changed_settings.items()}
    assert (
        values.items()
        >= {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: 256 * 1024,
            SettingCodes.MAX_FRAME_SIZE: 16384,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
        }.items()
    )


def test_request() -> None:
    """Headers, payload and the end arrive in this order, however soon the end was said.

    Outer spaces belong to a value: patterns travel as header fields.
    """
    pair = Pair()
    stream_id = pair.core.open_stream(request(b"/a.B/C", (b"key", b" spaced ")))
    pair.core.send_data(stream_id, [b"one", b"two"])
    pair.core.end_stream(stream_id)
    pair.read()

    [asked] = pair.of(h2.events.RequestReceived)
    assert isinstance(asked, h2.events.RequestReceived)
    assert asked.headers == request(b"/a.B/C", (b"key", b" spaced "))
    assert pair.payload(stream_id) == b"onetwo"
    assert pair.has_ended(stream_id)


@pytest.mark.parametrize(
    "field", [(b"Key", b"x"), (b"key", b"a\nb"), (b"key", b"\0"), (b"", b""), (b"k y", b""), (b"te", b"gzip")]
)
def test_malformed_request_is_not_sent(field: tuple[bytes, bytes]) -> None:
    """What the server would end the stream for is refused here, and costs no number."""
    core = ClientCore()
    wire(core)

    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        core.open_stream(request(b"/a.B/C", field))

    assert wire(core) == b""
    assert core.open_stream(request()) == 1


def test_end_waits_behind_payload() -> None:
    """The windows hold payload back, and the end with it."""
    pair = Pair()
    stream_id = pair.core.open_stream(request())
    pair.core.send_data(stream_id, [b"x" * 100_000])
    pair.core.end_stream(stream_id)
    pair.read()
    assert len(pair.payload(stream_id)) == 65535
    assert not pair.has_ended(stream_id)

    pair.server.increment_flow_control_window(100_000)
    pair.server.increment_flow_control_window(100_000, stream_id)
    pair.say(pair.server.data_to_send())

    assert len(pair.payload(stream_id)) == 100_000
    assert pair.has_ended(stream_id)


def test_reset_drops_what_is_queued() -> None:
    pair = Pair()
    stream_id = pair.core.open_stream(request())
    pair.core.send_data(stream_id, [b"x" * 100_000])
    pair.core.end_stream(stream_id)
    pair.core.reset_stream(stream_id, CANCEL)
    pair.say(window(100_000), window(100_000, stream_id))

    assert pair.payload(stream_id) == b""
    assert pair.resets() == {stream_id: CANCEL}
    assert not pair.core.is_open(stream_id)


def test_streams_are_limited_by_the_server() -> None:
    """CL-08: from its settings on, and again when a stream has ended in whichever way."""
    pair = Pair(announced={SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    first, second = pair.open(), pair.open(end=False)
    assert not pair.core.can_open

    pair.say(answer(first))
    assert pair.core.can_open
    third = pair.open()
    assert not pair.core.can_open
    pair.core.reset_stream(second, CANCEL)
    assert pair.core.can_open
    pair.open()
    pair.say(reset(third, CANCEL))
    assert pair.core.can_open

    pair.say(announcement({SettingCodes.MAX_CONCURRENT_STREAMS: 0}))
    assert not pair.core.can_open


def test_nothing_can_be_opened_on_a_closed_connection() -> None:
    core = ClientCore()
    core.close()

    assert not core.can_open


# -- answers ------------------------------------------------------------------------------------------------------

INTERIM: Headers = [(b":status", b"103"), (b"link", b"</x>")]
ANSWER = b"".join(
    [
        headers(1, INTERIM),
        headers(1, [(b":status", b"100")]),
        headers(1, OK),
        frame(DATA, PADDED, 1, b"\x03first\0\0\0"),
        frame(PING, 0, 0, b"12345678"),
        data(1, b"second"),
        long_headers(1, [*DONE, (b"grpc-message", b"m" * 200)], size=50),
        goaway(1, 0, b"bye"),
    ]
)
ANSWER_EVENTS = [
    HeadersReceived(1, OK),
    DataReceived(1, (b"firstsecond",)),
    HeadersReceived(1, [*DONE, (b"grpc-message", b"m" * 200)]),
    StreamEnded(1),
    GoAwayReceived(0, 1, b"bye"),
]


def test_whole() -> None:
    """CL-09: answers before the final one mean nothing here."""
    pair = Pair()
    pair.open()

    assert merged(pair.say(ANSWER)) == ANSWER_EVENTS


def test_byte_by_byte() -> None:
    pair = Pair()
    pair.open()

    assert merged(event for byte in ANSWER for event in pair.say(bytes((byte,)))) == ANSWER_EVENTS


@given(st.lists(st.integers(0, len(ANSWER)), max_size=8))
def test_any_cuts(cuts: list[int]) -> None:
    pair = Pair()
    pair.open()
    pieces = [ANSWER[start:end] for start, end in pairwise([0, *sorted(cuts), len(ANSWER)])]

    assert merged(event for piece in pieces for event in pair.say(piece)) == ANSWER_EVENTS


@pytest.mark.parametrize("end", [True, False], ids=["asked all", "still asking"])
def test_trailers_only(end: bool) -> None:
    pair = Pair()
    stream_id = pair.open(end=end)

    assert pair.say(headers(stream_id, OK + DONE, end=True)) == [
        HeadersReceived(stream_id, OK + DONE),
        StreamEnded(stream_id),
    ]
    assert not pair.core.is_open(stream_id)


@pytest.mark.parametrize("payload", [b"", b"last"])
def test_data_that_ends_a_stream(payload: bytes) -> None:
    """Then there are no trailers, which is different from empty ones."""
    pair = Pair()
    stream_id = pair.open()
    pair.say(headers(stream_id, OK))

    events = pair.say(data(stream_id, payload, end=True))

    assert events == [DataReceived(stream_id, (payload,))] * bool(payload) + [StreamEnded(stream_id)]


def test_answer_before_all_was_asked() -> None:
    """What is left to send is dropped, and the server told that nobody waits for its reading it."""
    pair = Pair()
    stream_id = pair.core.open_stream(request())
    pair.core.send_data(stream_id, [b"x" * 100_000])
    pair.core.end_stream(stream_id)
    pair.read()

    events = pair.say(answer(stream_id), reset(stream_id, NO_ERROR))

    assert events[-1] == StreamEnded(stream_id)
    assert pair.resets() == {stream_id: NO_ERROR}
    assert pair.core.queued(stream_id) == 0
    assert not pair.core.is_open(stream_id)


def test_commands_on_an_answered_stream_do_nothing() -> None:
    pair = Pair()
    stream_id = pair.open(end=False)
    pair.say(answer(stream_id))
    before = len(pair.heard)
    pair.core.send_data(stream_id, [b"late"])
    pair.core.end_stream(stream_id)
    pair.core.reset_stream(stream_id, CANCEL)
    pair.core.consumed(stream_id, 100)
    pair.read()

    assert len(pair.heard) == before


@pytest.mark.parametrize("moment", ["at once", "after headers", "after data"])
def test_reset_by_the_server(moment: str) -> None:
    """CL-05."""
    pair = Pair()
    stream_id = pair.open()
    said = {"at once": [], "after headers": [headers(1, OK)], "after data": [headers(1, OK), data(1, b"half")]}[moment]

    assert pair.say(*said, reset(stream_id, 2))[-1] == StreamResetReceived(stream_id, 2)
    assert not pair.core.is_open(stream_id)


@pytest.mark.parametrize("end", [True, False], ids=["asked all", "still asking"])
def test_reset_after_the_end_is_no_news(end: bool) -> None:
    pair = Pair()
    stream_id = pair.open(end=end)
    pair.say(answer(stream_id))

    assert pair.say(reset(stream_id, NO_ERROR), reset(stream_id, CANCEL)) == []
    assert pair.open() == 3


def test_payload_after_the_end() -> None:
    """HF-08: it is dropped, and the server told."""
    pair = Pair()
    stream_id = pair.open()
    pair.say(answer(stream_id))

    assert pair.say(data(stream_id, b"x")) == []
    assert pair.say(answer(pair.open()))[-1] == StreamEnded(3)


def test_frames_after_our_reset() -> None:
    """A cancelled call's answer may be under way. The connection's window gets it back."""
    pair = Pair()
    for _ in range(100):
        stream_id = pair.open()
        pair.core.reset_stream(stream_id, CANCEL)
        late = [headers(stream_id, OK), data(stream_id, b"x" * 100_000), headers(stream_id, DONE, end=True)]
        assert pair.say(*late) == []

    assert pair.credit() > 9_000_000
    assert pair.say(answer(pair.open()))[-1] == StreamEnded(201)


def test_goaway_is_reported_and_streams_go_on() -> None:
    pair = Pair()
    stream_id = pair.open()

    assert pair.say(goaway(stream_id)) == [GoAwayReceived(0, stream_id, b"")]
    assert pair.say(answer(stream_id, b"x"))[-1] == StreamEnded(stream_id)


# -- answers that are malformed: their stream ends, another goes on -----------------------------------------------

MALFORMED = {
    "payload first": data(1, b"x"),
    "payload first, ending": data(1, b"x", end=True),
    "payload after an interim answer": headers(1, INTERIM) + data(1, b"x"),
    "no fields": headers(1, []),
    "no fields, ending": headers(1, [], end=True),
    "no status": headers(1, DONE),
    "no status, ending": headers(1, DONE, end=True),
    "status not first": headers(1, [(b"a", b"b"), (b":status", b"200")]),
    "two statuses": headers(1, [(b":status", b"200"), *OK]),
    "status of no number": headers(1, [(b":status", b"ok!")]),
    "status of four digits": headers(1, [(b":status", b"2000")]),
    "status with a space": headers(1, [(b":status", b"200 ")]),
    "pseudo-header of a request": headers(1, [*OK, (b":path", b"/")]),
    "upper case": headers(1, [*OK, (b"Key", b"x")]),
    "line break": headers(1, [*OK, (b"key", b"a\r\nb")]),
    "field of HTTP/1.1": headers(1, [*OK, (b"connection", b"close")]),
    "status in trailers": headers(1, OK) + headers(1, [*OK, *DONE], end=True),
    "malformed trailers": headers(1, OK) + headers(1, [(b"grpc status", b"0")], end=True),
}


@pytest.mark.parametrize("end", [True, False], ids=["asked all", "still asking"])
@pytest.mark.parametrize("said", MALFORMED.values(), ids=MALFORMED)
def test_malformed_answer(said: bytes, end: bool) -> None:
    """CL-09, CL-15, HF-14."""
    pair = Pair()
    bad, good = pair.open(end=end), pair.open(end=end)

    events = pair.say(said)

    assert events[-1] == StreamResetReceived(bad, PROTOCOL_ERROR, by="library")
    assert StreamEnded(bad) not in events
    assert not pair.core.is_open(bad)
    assert pair.say(answer(good, b"x"))[-1] == StreamEnded(good)


@pytest.mark.parametrize("size", [16_000, 40_000], ids=["one frame", "three frames"])
def test_payload_first_counts_for_the_window(size: int) -> None:
    """Else a server could take the connection's window away by it."""
    pair = Pair()
    for _ in range(1000):
        pair.say(data(pair.open(), b"x" * size))

    assert pair.credit() > 900 * size
    assert pair.say(answer(pair.open()))[-1] == StreamEnded(2001)


# -- what ends the connection -------------------------------------------------------------------------------------

FATAL = {
    "push": frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(request())),
    "push on a stream that never was": frame(PUSH_PROMISE, END_HEADERS, 9, b"\0\0\0\2" + block(request())),
    "headers on a stream that never was": headers(3, OK),
    "trailers on a stream that never was": headers(3, OK, end=True),
    "headers on an even number": headers(2, OK),
    "a request": headers(2, request()),
    "payload on a stream that never was": data(3, b"x"),
    "payload on an even number": data(2, b"x"),
    "window of a stream that never was": window(1, 3),
    "headers on no stream": headers(0, OK),
    "payload on no stream": data(0, b"x"),
    "trailers that do not end": headers(1, OK) + headers(1, DONE),
    "payload within headers": frame(HEADERS, 0, 1, block(OK)) + data(1, b"x"),
    "continuation of nothing": frame(CONTINUATION, END_HEADERS, 1, block(OK)),
    "bad index": frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\x7f"),
    "cut block": frame(HEADERS, END_HEADERS, 1, block(OK)[:-1]),
    "interim answer that ends": headers(1, INTERIM, end=True),
    "interim answer after the final one": headers(1, OK) + headers(1, INTERIM),
    "headers after the end": answer(1) + headers(1, OK),
    "more than the stream's window": headers(1, OK) + data(1, b"x" * (256 * 1024 + 1)),
    "more padding than payload": headers(1, OK) + frame(DATA, PADDED, 1, b"\x09x"),
    "frame above the limit": b"\x00\x40\x01" + bytes(6),
    "window of the connection too wide": window(2**31 - 1),
    "window raised by nothing": window(0),
    "settings on a stream": frame(4, 0, 1),
    "settings cut": frame(4, 0, 0, b"\0\3\0"),
    "push enabled by the server": announcement({SettingCodes.ENABLE_PUSH: 1}),
    "ping cut": frame(PING, 0, 0, b"1234"),
    "goaway cut": frame(7, 0, 0, b"1234"),
    "goaway on a stream": frame(7, 0, 1, bytes(8)),
}


@pytest.mark.parametrize("said", FATAL.values(), ids=FATAL)
def test_broken_http2(said: bytes) -> None:
    """CL-07, CL-15: the server is told why, then nothing is taken from it any more."""
    pair = Pair()
    pair.open()

    with pytest.raises(RemoteProtocolError):
        pair.say(said)

    pair.read()
    [terminated] = pair.of(h2.events.ConnectionTerminated)
    assert isinstance(terminated, h2.events.ConnectionTerminated)
    assert terminated.error_code
    assert pair.core.receive_data(answer(1)) == []
    assert not pair.core.can_open


IGNORED = {
    "frame of an unknown type": frame(0xBB, 0xFF, 1, b"x"),
    "unknown setting": frame(4, 0, 0, b"\x00\x09\0\0\0\1"),
    "priority": frame(2, 0, 1, b"\0\0\0\0\x10"),
    "reset of a stream that never was": reset(3, CANCEL),
    "answer to no ping": frame(PING, ACK, 0, b"12345678"),
}


@pytest.mark.parametrize("said", IGNORED.values(), ids=IGNORED)
def test_what_is_ignored(said: bytes) -> None:
    """HF-10, and what h2 lets pass and does no harm."""
    pair = Pair()
    stream_id = pair.open()

    assert pair.say(said) == []
    assert pair.say(answer(stream_id))[-1] == StreamEnded(stream_id)


# -- sizes --------------------------------------------------------------------------------------------------------


def test_huge_trailers() -> None:
    """A failed build's: 3 MB of details in more than 180 CONTINUATION frames."""
    details = (b"grpc-status-details-bin", b"QUJD" * 750_000)
    pair = Pair()
    stream_id = pair.open()

    wire = long_headers(stream_id, [*DONE, details])
    assert wire.count(b"\x40\x00\x09") > 180
    events = pair.say(headers(stream_id, OK), wire)

    assert events == [
        HeadersReceived(stream_id, OK),
        HeadersReceived(stream_id, [*DONE, details]),
        StreamEnded(stream_id),
    ]


def test_headers_above_the_limit() -> None:
    """HP-01: a small block that unfolds to more than is taken."""
    pair = Pair(ClientCore(max_header_list=100_000))
    pair.open()
    remembered = b"\x40" + block([(b"k", b"v" * 4000)])[1:]  # put into the dynamic table

    with pytest.raises(RemoteProtocolError):
        pair.say(frame(HEADERS, END_HEADERS, 1, block(OK) + remembered + b"\xbe" * 100))


def test_endless_header_block() -> None:
    """FL-07: empty frames count too."""
    pair = Pair(ClientCore(max_header_list=100_000))
    pair.open()
    pair.say(frame(HEADERS, 0, 1, block(OK)))

    with pytest.raises(RemoteProtocolError, match="header block"):
        pair.say(*[frame(CONTINUATION, 0, 1)] * 20_000)


def test_unread_payload_holds_its_stream_only() -> None:
    """The windows: what is not consumed is not given back, to its stream."""
    pair = Pair()
    slow, fast = pair.open(), pair.open()
    pair.say(headers(slow, OK), headers(fast, OK), data(slow, b"x" * 256 * 1024))
    for _ in range(100):
        pair.say(data(fast, b"y" * 100_000))
        pair.core.consumed(fast, 100_000)
    assert pair.say(data(fast, b"", end=True)) == [StreamEnded(fast)]

    pair.core.consumed(slow, 256 * 1024)
    assert pair.say(data(slow, b"more")) == [DataReceived(slow, (b"more",))]


ENDS: list[Callable[[int], bytes]] = [
    lambda stream_id: answer(stream_id, b"x"),
    lambda stream_id: reset(stream_id, CANCEL),
    lambda stream_id: data(stream_id, b"x"),  # malformed
    lambda stream_id: headers(stream_id, OK + DONE, end=True),
]


def test_nothing_is_kept_of_finished_streams() -> None:
    """Ten thousand, ended in every way there is."""
    pair = Pair()
    for number in range(10_000):
        stream_id = pair.core.open_stream(request())
        pair.core.send_data(stream_id, [b"x"])
        if number & 4:
            pair.core.end_stream(stream_id)
        wire(pair.core)
        pair.core.receive_data(ENDS[number & 3](stream_id))
    pair.core.open_stream(request())

    core = pair.core
    assert len(core._h2.streams) == len(core._streams) == len(core._alive) == 1
    assert core._answered == set()
    assert len(core._credit._streams) == len(core._outbox._queues) == 1


# -- hostile bytes ------------------------------------------------------------------------------------------------

LEGAL = [
    *[announcement({SettingCodes.INITIAL_WINDOW_SIZE: size}) for size in (0, 70_000)],
    announcement({SettingCodes.MAX_CONCURRENT_STREAMS: 1}),
    frame(PING, 0, 0, b"12345678"),
    window(1000),
    goaway(3),
    *[
        piece
        for stream_id in (1, 3, 5)
        for piece in (
            headers(stream_id, INTERIM),
            headers(stream_id, OK),
            headers(stream_id, OK + DONE, end=True),
            headers(stream_id, DONE, end=True),
            frame(HEADERS, END_STREAM, stream_id, block(DONE)[:5]),
            frame(CONTINUATION, END_HEADERS, stream_id, block(DONE)[5:]),
            data(stream_id, b"payload"),
            data(stream_id, b"payload", end=True),
            window(1000, stream_id),
            reset(stream_id, CANCEL),
        )
    ],
]


@st.composite
def hostile_bytes(draw: st.DrawFn) -> bytes:
    """Legal frames in any order, with some bytes changed and noise among them."""
    said = bytearray(b"".join(draw(st.lists(st.sampled_from(LEGAL), max_size=15))))
    for position in draw(st.lists(st.integers(0, max(0, len(said) - 1)), max_size=4)):
        if position < len(said):
            said[position] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        kind, flags, stream_id = draw(st.tuples(st.integers(0, 11), st.integers(0, 255), st.integers(0, 6)))
        said += frame(kind, flags, stream_id, draw(st.binary(max_size=20)))
    return bytes(said)


@settings(max_examples=400)
@given(hostile_bytes(), st.integers(1, 60))
def test_hostile_bytes(said: bytes, size: int) -> None:
    """CL-15: nothing is raised but the remote error, and of each stream no more is heard after its end."""
    core = ClientCore(stream_window=100, connection_window=65536 + 100)
    for _ in range(3):
        core.send_data(core.open_stream(request()), [b"x" * 100])
    core.end_stream(1)
    over: set[int] = set()
    for start in range(0, len(said), size):
        try:
            events = core.receive_data(said[start : start + size])
        except RemoteProtocolError:
            events = []
            over = {1, 3, 5}
        for event in events:
            if isinstance(event, GoAwayReceived):
                continue
            assert event.stream_id in {1, 3, 5} - over
            if isinstance(event, DataReceived):
                core.consumed(event.stream_id, len(event.data))
            if isinstance(event, StreamEnded | StreamResetReceived):
                over.add(event.stream_id)
        wire(core)
        assert {number for number in (1, 3, 5) if core.is_open(number)} == {1, 3, 5} - over
    core.close()
    wire(core)
