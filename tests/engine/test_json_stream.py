"""JSON objects out of a byte stream."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.engine.json_stream import JsonStream, read_objects
from buildkit_session.errors import ConnectionClosed, RemoteProtocolError

OBJECTS = [{"a": 1}, {"s": "line\nbreak \u20ac \U0001f433"}, {}, {"deep": [{"x": None}]}]
STREAM = b"".join(json.dumps(item, ensure_ascii=False).encode() + b"\r\n" for item in OBJECTS)


def _parse(pieces: list[bytes]) -> list[dict[str, object]]:
    stream = JsonStream()
    return [item for piece in pieces for item in stream.feed(piece)] + stream.close()


def test_whole() -> None:
    """Several objects in one piece come out in order."""
    assert _parse([STREAM]) == OBJECTS


def test_byte_by_byte() -> None:
    """An object may be cut anywhere, inside a character too."""
    assert _parse([bytes([byte]) for byte in STREAM]) == OBJECTS


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_any_pieces(cuts: list[int]) -> None:
    """The pieces do not matter."""
    edges = [0, *cuts, len(STREAM)]

    assert _parse([STREAM[start:end] for start, end in pairwise(edges)]) == OBJECTS


def test_object_comes_out_at_once() -> None:
    """An object is not held back until the next one."""
    assert JsonStream().feed(b'{"a":1}\r\n{"b"') == [{"a": 1}]


def test_last_line_without_end() -> None:
    """The last object needs no newline."""
    assert _parse([b'{"a":1}\r\n{"b":2}']) == [{"a": 1}, {"b": 2}]


def test_objects_on_one_line() -> None:
    """Objects need no newline between them, and blank lines are nothing."""
    assert _parse([b'\r\n {"a":1} {"b":2}{}\n\n']) == [{"a": 1}, {"b": 2}, {}]


def test_other_values_are_dropped() -> None:
    """JSON that is no object means nothing here."""
    assert _parse([b'1 "x" [{"a":1}] null\n']) == []


@pytest.mark.parametrize("rest", [b"{", b'{"a":"\xe2\x82', b'{"a":1}\n{"error', b"tru"])
def test_cut_off(rest: bytes) -> None:
    """A stream that ends inside an object was cut off."""
    stream = JsonStream()
    stream.feed(rest)

    with pytest.raises(ConnectionClosed, match="inside a JSON object"):
        stream.close()


@pytest.mark.parametrize(
    "line", [b"<html>", b'{"a":}', b'{"a":1}}', b"[" * 100_000, b'{"n":' + b"9" * 5000 + b"}", b"\x00\xff"]
)
def test_garbage(line: bytes) -> None:
    """A line that is not JSON, or that Python refuses to hold, is the peer's fault; the error stays short."""
    with pytest.raises(RemoteProtocolError, match="not JSON") as caught:
        JsonStream().feed(line + b"\n")
    assert len(str(caught.value)) < 2000


def test_limit() -> None:
    """A line is refused as soon as it is above the limit, without waiting for its end; one at the limit passes."""
    at_limit = b'{"a":"' + b"x" * 92 + b'"}'
    assert JsonStream(max_object=100).feed(at_limit + b"\n") == [{"a": "x" * 92}]

    stream = JsonStream(max_object=100)
    stream.feed(b"x" * 60)
    with pytest.raises(RemoteProtocolError, match=r"101 bytes .* limit is 100"):
        stream.feed(b"x" * 41)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """No bytes raise anything but the two errors that are promised."""
    try:
        _parse([data])
    except (RemoteProtocolError, ConnectionClosed):
        return


@pytest.mark.anyio
async def test_reading_all_of_an_answer() -> None:
    """Objects are handed over as they arrive; what is made of them may end the reading."""
    pieces = [STREAM[:10], STREAM[10:], b'{"last": 1}', b""]
    taken: list[dict[str, object]] = []

    class Source:
        async def receive(self) -> bytes:
            return pieces.pop(0)

    async def take(entry: dict[str, object]) -> None:
        if "a" in entry and not taken:
            assert len(pieces) == 3
        taken.append(entry)
        if "last" in entry:
            raise ConnectionClosed("enough")

    with pytest.raises(ConnectionClosed, match="enough"):
        await read_objects(Source(), take)
    assert taken == [*OBJECTS, {"last": 1}]
