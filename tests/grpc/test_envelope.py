"""Length-prefixed messages in pieces of any size."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tricky_cases import tricky

from buildkit_session.errors import RpcError
from buildkit_session.grpc.envelope import Unpacker, pack
from buildkit_session.grpc.status import Status

BODIES = [b"one", b"", b"\0" * 300, b"four"]
WIRE = b"".join(pack(BODIES))
LATE = b"".join(pack([b"late"]))


def feed(unpacker: Unpacker, data: bytes) -> list[bytes]:
    unpacker.feed(data)
    return [bytes(body) for body in unpacker.take(1000)]


def test_pack() -> None:
    assert b"".join(pack([b"abc"])) == b"\0\0\0\0\x03abc"


def test_pack_pieces() -> None:
    assert b"".join(pack([(b"a", memoryview(b"bc")), ()])) == b"\0\0\0\0\x03abc" + b"\0\0\0\0\0"


def test_whole() -> None:
    unpacker = Unpacker()

    assert feed(unpacker, WIRE) == BODIES
    unpacker.check_end()


def test_byte_by_byte() -> None:
    """GR-06."""
    unpacker = Unpacker()

    assert [body for byte in WIRE for body in feed(unpacker, bytes((byte,)))] == BODIES


def test_trailing_bytes() -> None:
    """GR-06: the beginning of a message waits for its rest."""
    unpacker = Unpacker()

    assert feed(unpacker, WIRE + LATE[:6]) == BODIES
    assert feed(unpacker, LATE[6:]) == [b"late"]


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 300), max_size=8))
def test_any_cuts(bodies: list[bytes], cuts: list[int]) -> None:
    unpacker = Unpacker()
    wire = b"".join(pack(bodies))
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]

    out = [body for start, end in itertools.pairwise(edges) for body in feed(unpacker, wire[start:end])]

    assert out == bodies


def test_message_above_the_limit() -> None:
    """GR-08: refused on its prefix, before a byte of the body; the text names both numbers."""
    unpacker = Unpacker(max_message=10)

    with pytest.raises(RpcError, match=r"4294967295 bytes, 10 are") as caught:
        feed(unpacker, b"\0\xff\xff\xff\xff")

    assert caught.value.code == Status.RESOURCE_EXHAUSTED


def test_message_at_the_limit() -> None:
    assert feed(Unpacker(max_message=10), b"".join(pack([b"x" * 10]))) == [b"x" * 10]


@tricky(26)
@pytest.mark.parametrize("flag", [1, 2, 128, 255])
def test_flags(flag: int) -> None:
    """GR-07: refused on the flag byte."""
    with pytest.raises(RpcError, match=f"flag {flag}") as caught:
        feed(Unpacker(), bytes((flag,)))

    assert caught.value.code == Status.INTERNAL


def test_messages_before_a_fault() -> None:
    """A fault takes nothing from the messages before it, and is raised again and again after them."""
    unpacker = Unpacker()

    assert feed(unpacker, WIRE + b"\x07") == BODIES
    for _ in range(2):
        with pytest.raises(RpcError, match="flag 7"):
            unpacker.take(1)


def test_end_inside_a_message() -> None:
    """GR-09."""
    unpacker = Unpacker()
    feed(unpacker, WIRE[:-1])

    with pytest.raises(RpcError, match="inside a message") as caught:
        unpacker.check_end()

    assert caught.value.code == Status.INTERNAL
