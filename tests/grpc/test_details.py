"""Details of a status, whatever the peer sends."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.grpc.details import MAX_DETAILS, Detail, decode_trailer, read_details
from buildkit_session.messages.google.protobuf import Any
from buildkit_session.messages.google.rpc import Status

DETAILS = st.lists(st.builds(Any, type_url=st.text(max_size=20), value=st.binary(max_size=40)), max_size=5)


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_padding_is_optional(size: int) -> None:
    value = b"\xff" * size
    assert decode_trailer(b64encode(value)) == decode_trailer(b64encode(value).rstrip(b"=")) == value


@pytest.mark.parametrize("value", [b"A", b"%%%%", b"AA=A", b"\xff\xff", b"A B="])
def test_what_is_not_base64_is_nothing(value: bytes) -> None:
    assert decode_trailer(value) == b""


@given(DETAILS, st.integers(0, 16), st.text(max_size=20))
def test_as_the_generated_message_reads_them(details: list[Any], code: int, message: str) -> None:
    status = Status(code=code, message=message, details=details)
    assert read_details(bytes(status)) == tuple(Detail(any_.type_url, any_.value) for any_ in details)


@given(st.binary(max_size=60))
def test_nothing_raises(data: bytes) -> None:
    """Any bytes are a status with some details, or none."""
    read_details(decode_trailer(data))
    read_details(data)


@given(DETAILS, st.data())
def test_what_came_before_a_cut_is_kept(details: list[Any], data: st.DataObject) -> None:
    whole = read_details(bytes(Status(details=details)))
    wire = bytes(Status(details=details))
    cut = read_details(wire[: data.draw(st.integers(0, len(wire)))])
    assert whole[: len(cut)] == cut


def test_unknown_fields_are_passed_over() -> None:
    """Of every wire type: a later Status may have more to say."""
    unknown = bytes.fromhex("2096 01 2900112233445566 77 2d00112233 3a0161")
    detail = Any(type_url="t", value=b"v")
    assert read_details(unknown + bytes(Status(details=[detail]))) == (Detail("t", b"v"),)


def test_names_need_not_be_utf8() -> None:
    assert read_details(bytes.fromhex("1a 05 0a 01 ff 12 00")) == (Detail("\ufffd", b""),)


def test_their_number_is_bounded() -> None:
    """An empty detail is two bytes, and a trailer may have millions."""
    assert len(read_details(b"\x1a\x00" * 1_000_000)) == MAX_DETAILS
