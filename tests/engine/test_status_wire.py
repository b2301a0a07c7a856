"""The quick decoder of progress messages: equal to the general one wherever it answers, and it answers the usual."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.engine import status_message, status_wire
from buildkit_session.engine.events import ProgressGroup, Vertex
from buildkit_session.messages import pb
from buildkit_session.messages.moby.buildkit import v1 as wire
from buildkit_session.messages.nanotime import Timestamp

texts = st.text(max_size=8)
numbers = st.integers(0, 2**63 - 1)
times = st.none() | st.builds(Timestamp, seconds=numbers, nanos=st.integers(0, 999_999_999))
vertexes = st.builds(
    wire.Vertex,
    digest=texts,
    inputs=st.lists(texts, max_size=3),
    name=texts,
    cached=st.booleans(),
    started=times,
    completed=times,
    error=texts,
    progress_group=st.none() | st.builds(pb.ProgressGroup, id=texts, name=texts, weak=st.booleans()),
)
statuses = st.builds(
    wire.VertexStatus,
    id=texts,
    vertex=texts,
    name=texts,
    current=numbers,
    total=numbers,
    timestamp=times,
    started=times,
    completed=times,
)
logs = st.builds(wire.VertexLog, vertex=texts, timestamp=times, stream=numbers, msg=st.binary(max_size=200))
responses = st.builds(
    wire.StatusResponse,
    vertexes=st.lists(vertexes, max_size=3),
    statuses=st.lists(statuses, max_size=3),
    logs=st.lists(logs, max_size=3),
).map(bytes)


@given(responses)
def test_what_a_daemon_sends_is_decoded_here(data: bytes) -> None:
    assert status_wire.decode(data) == status_message.decode(data)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(responses) + draw(st.binary(max_size=2)))
    for _ in range(draw(st.integers(0, 2)) if data else 0):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(damaged())
def test_what_is_damaged_means_the_same_or_is_left_to_the_general_decoder(data: bytes) -> None:
    try:
        events = status_wire.decode(data)
    except status_wire.UnusualError:
        return
    assert events == status_message.decode(data)


@pytest.mark.parametrize(
    "message",
    [
        wire.StatusResponse(warnings=[wire.VertexWarning(vertex="v")]),
        wire.StatusResponse(logs=[wire.VertexLog(timestamp=Timestamp(seconds=-1))]),
        wire.StatusResponse(logs=[wire.VertexLog(timestamp=Timestamp(nanos=-1))]),
        wire.StatusResponse(statuses=[wire.VertexStatus(current=-1)]),
    ],
    ids=["warning", "time before 1970", "negative fraction", "negative number"],
)
def test_the_unusual_is_left_to_the_general_decoder(message: wire.StatusResponse) -> None:
    with pytest.raises(status_wire.UnusualError):
        status_wire.decode(bytes(message))
    assert status_message.decode(bytes(message))


def test_the_group_of_a_step_is_decoded_here() -> None:
    group = pb.ProgressGroup(id="g", name="load", weak=True)
    (vertex,) = status_wire.decode(bytes(wire.StatusResponse(vertexes=[wire.Vertex(progress_group=group)])))
    assert vertex == Vertex("", "", progress_group=ProgressGroup("g", "load", weak=True))


def test_of_a_group_sent_twice_the_last_one_counts() -> None:
    twice = b"".join(bytes(wire.Vertex(progress_group=pb.ProgressGroup(id=name))) for name in "ab")
    data = bytes([0x0A, len(twice)]) + twice
    assert status_wire.decode(data) == status_message.decode(data)
