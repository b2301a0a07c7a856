"""DATA and windows beside ``h2`` come to the same as ``h2`` alone, whatever a peer that keeps to the rules does."""

from __future__ import annotations

from typing import Any

import h2.events
import h2.exceptions
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_core import PlainCore
from scripted_peer import h2_client, request

from buildkit_session.http2.core import Core
from buildkit_session.http2.events import DataReceived, Event, StreamOpened

OK = [(b":status", b"200")]
DONE = [(b"grpc-status", b"0")]

streams = st.sampled_from([1, 3, 5])
sizes = st.sampled_from([0, 1, 5, 100, 9000, 16384])
actions = st.one_of(
    st.tuples(st.just("open"), streams, st.booleans()),
    st.tuples(st.just("content-length"), streams, st.integers(0, 3)),
    st.tuples(st.just("send"), streams, sizes, st.sampled_from([None, None, 0, 9, 255]), st.booleans()),
    st.tuples(st.just("reset"), streams, st.sampled_from([0, 8])),
    st.tuples(st.just("widen"), streams, st.sampled_from([1, 1000, 70000])),
    st.tuples(st.just("window"), st.sampled_from([0, 10, 1000, 65535, 200000])),
    st.tuples(st.just("frame size"), st.sampled_from([16384, 20000])),
    st.tuples(st.just("ping")),
    st.tuples(st.just("answer"), streams, st.lists(sizes, max_size=3), st.booleans()),
    st.tuples(st.just("give up"), streams),
    st.tuples(st.just("exchange"), st.integers(1, 40000)),
)


class Side:
    """A core with a client of its own; all that either is told is kept."""

    def __init__(self, core: Core | PlainCore) -> None:
        self.core = core
        self.client = h2_client()
        self.client.initiate_connection()
        self.told: list[Event] = []
        self.answers: dict[int, list[Any]] = {}
        self._answered: set[int] = set()
        self._opened = 0
        self.exchange(1 << 16)

    def exchange(self, cut: int) -> None:
        """Carry bytes both ways until nobody has any; those of the client in pieces of ``cut`` bytes."""
        while True:
            up = self.client.data_to_send()
            for start in range(0, len(up), cut):
                for event in self.core.receive_data(up[start : start + cut]):
                    self._tell(event)
            down = b"".join(self.core.data_to_send(1 << 20))
            for answer in self.client.receive_data(down):
                self._note(answer)
            if not up and not down:
                return

    def _tell(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self.core.consumed(event.stream_id, len(event.data))
        last = self.told[-1] if self.told else None
        if isinstance(event, DataReceived) and isinstance(last, DataReceived) and last.stream_id == event.stream_id:
            self.told.pop()
            event = DataReceived(event.stream_id, (*last.pieces, *event.pieces))
        self.told.append(event)

    def _note(self, event: h2.events.Event) -> None:
        seen = self.answers.setdefault(getattr(event, "stream_id", None) or 0, [])
        match event:
            case h2.events.DataReceived():
                if event.flow_controlled_length:
                    self.client.increment_flow_control_window(event.flow_controlled_length)
                before = seen.pop() if seen and isinstance(seen[-1], bytes) else b""
                seen.append(before + (event.data or b""))
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                seen.append(tuple(event.headers or ()))
            case h2.events.StreamEnded() | h2.events.PingAckReceived():
                seen.append(type(event))
            case h2.events.StreamReset():
                seen.append(event.error_code)
            case _:
                pass

    def act(self, action: tuple[Any, ...]) -> None:  # noqa: C901, PLR0912 - a table
        """Do something that a peer or a handler may do."""
        match action:
            case ("open" | "content-length", number, _) if number <= self._opened:
                pass  # numbers only rise
            case ("send" | "reset" | "widen", number, *_) if not self._is_open(number):
                pass
            case ("open", number, end):
                self._opened = number
                self.client.send_headers(number, request(), end_stream=end)
            case ("content-length", number, length):
                self._opened = number
                self.client.send_headers(number, [*request(), (b"content-length", b"%d" % length)])
                self.client.send_data(number, b"x" * length, end_stream=True)
            case ("send", number, size, padding, end):
                self.client.send_data(number, b"%d" % number * size, pad_length=padding, end_stream=end)
            case ("reset", number, code):
                self.client.reset_stream(number, code)
            case ("widen", number, increment):
                self.client.increment_flow_control_window(increment, number)
            case ("window", size):
                self.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: size})
            case ("frame size", size):
                self.client.update_settings({SettingCodes.MAX_FRAME_SIZE: size})
            case ("ping",):
                self.client.ping(b"12345678")
            case ("answer", number, pieces, end) if self._is_open(number):
                self._answer(number, [b"%d" % size * size for size in pieces], end=end)
            case ("give up", number):
                self.core.reset_stream(number, 2)
            case ("exchange", cut):
                self.exchange(cut)

    def _is_open(self, number: int) -> bool:
        return any(isinstance(event, StreamOpened) and event.stream_id == number for event in self.told)

    def _answer(self, number: int, pieces: list[bytes], *, end: bool) -> None:
        if number not in self._answered:
            self._answered.add(number)
            self.core.send_headers(number, OK)
        self.core.send_data(number, pieces)
        if end:
            self.core.send_trailers(number, DONE)


def told_by_stream(side: Side) -> dict[int, list[Event]]:
    by_stream: dict[int, list[Event]] = {}
    for event in side.told:
        by_stream.setdefault(getattr(event, "stream_id", 0), []).append(event)
    return by_stream


def permitted(sides: list[Side], action: tuple[Any, ...]) -> list[bool]:
    done = []
    for side in sides:
        try:
            side.act(action)
        except (h2.exceptions.ProtocolError, KeyError, ValueError):
            done.append(False)
        else:
            done.append(True)
    return done


@settings(max_examples=300, deadline=None)
@given(st.lists(actions, max_size=25))
def test_plain_path(script: list[tuple[Any, ...]]) -> None:
    sides = [Side(Core()), Side(PlainCore())]
    for action in script:
        # What a client may not do in its state leaves h2 in another one; both clients are in the same before.
        if not all(permitted(sides, action)):
            break
        for side in sides:
            side.exchange(1 << 16)

    fast, plain = sides
    assert told_by_stream(fast) == told_by_stream(plain)
    assert fast.answers == plain.answers
