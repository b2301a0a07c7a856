"""A status as it travels in trailers."""

from __future__ import annotations

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.grpc.status import MAX_MESSAGE, decode_message, encode_message, status_trailers


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("plain text, ~!", b"plain text, ~!"),
        ("100%", b"100%25"),
        ("ü\n\0\x7f", b"%C3%BC%0A%00%7F"),
        ("\ud800", b"?"),  # half a character of UTF-16
    ],
)
def test_encode(text: str, wire: bytes) -> None:
    assert encode_message(text) == wire


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"100%25", "100%"),
        (b"%c3%BC", "ü"),
        (b"100%", "100%"),
        (b"%zz%4", "%zz%4"),
        (b"%+5% 5%1_", "%+5% 5%1_"),  # none of them is two hexadecimal digits
        (b"%FF\xff", "\ufffd\ufffd"),
    ],
)
def test_decode(wire: bytes, text: str) -> None:
    """GR-13: what is not a valid escape stands for itself."""
    assert decode_message(wire) == text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_round_trip(text: str) -> None:
    wire = encode_message(text)

    assert all(0x20 <= byte < 0x7F for byte in wire)
    assert decode_message(wire) == text


@given(st.binary(max_size=100))
def test_decode_takes_anything(wire: bytes) -> None:
    assert isinstance(decode_message(wire), str)


@pytest.mark.parametrize("text", ["x" * 2**20, "ü" * 5000, "x" + "\U0001f600" * 2000])
def test_long_text_is_cut(text: str) -> None:
    """HP-07: to a length that every peer accepts, and never inside a character."""
    wire = encode_message(text)

    assert MAX_MESSAGE - 12 < len(wire) <= MAX_MESSAGE
    assert text.startswith(decode_message(wire))


def test_trailers() -> None:
    assert status_trailers(0) == [(b"grpc-status", b"0")]
    assert status_trailers(5, "no %", b"\0\1") == [
        (b"grpc-status", b"5"),
        (b"grpc-message", b"no %25"),
        (b"grpc-status-details-bin", b"AAE="),
    ]


def test_trailers_stay_below_what_peers_accept() -> None:
    """HP-07: at most 8 KiB in all as HTTP/2 counts, the code always among them."""
    trailers = status_trailers(13, "ü" * 10000, b"x" * 2048)

    assert sum(len(name) + len(value) + 32 for name, value in trailers) < 8192
    assert b64decode(dict(trailers)[b"grpc-status-details-bin"]) == b"x" * 2048
    assert [name for name, _ in status_trailers(13, "", b"x" * 2049)] == [b"grpc-status"]
