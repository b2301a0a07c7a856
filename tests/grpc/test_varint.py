"""Numbers as protobuf writes them."""

from __future__ import annotations

import betterproto2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.grpc.varint import encode_varint, read_varint

# On both sides of each length that a number can have.
EDGES = [(1 << bits) + near for bits in range(7, 64, 7) for near in (-1, 0, 1)]
NUMBERS = st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1))


@given(NUMBERS)
def test_numbers_are_written_as_by_the_general_codec(number: int) -> None:
    assert encode_varint(number) == betterproto2.encode_varint(number)


@given(NUMBERS.filter(lambda number: number < 1 << 63), st.binary(max_size=2), st.binary(max_size=2))
def test_a_number_is_read_where_it_is(number: int, before: bytes, behind: bytes) -> None:
    body = before + encode_varint(number)
    assert read_varint(body + behind, len(before)) == (number, len(body))
    assert read_varint(memoryview(body + behind), len(before)) == (number, len(body))


def test_a_number_may_be_longer_than_it_has_to_be() -> None:
    assert read_varint(b"\x81\x80\x00", 0) == (1, 3)


@pytest.mark.parametrize("number", [1 << 7, 1 << 14, (1 << 63) - 1])
def test_a_number_that_is_cut_off_is_no_number(number: int) -> None:
    with pytest.raises(IndexError):
        read_varint(encode_varint(number)[:-1], 0)


@pytest.mark.parametrize("body", [encode_varint(1 << 63), encode_varint((1 << 64) - 1), b"\xff" * 1000])
def test_more_than_nine_bytes_are_too_many(body: bytes) -> None:
    with pytest.raises(OverflowError, match="offset 9 has more than nine bytes"):
        read_varint(body, 0)
