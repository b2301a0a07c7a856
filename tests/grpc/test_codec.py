"""Messages to bytes and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.grpc.codec import BYTES, MessageCodec
from buildkit_session.messages.moby.buildkit.v1 import Vertex
from buildkit_session.messages.moby.filesync.v1 import BytesMessage


def test_message_round_trip() -> None:
    codec = MessageCodec(BytesMessage)

    assert codec.decode(codec.encode(BytesMessage(data=b"\xff\0"))) == BytesMessage(data=b"\xff\0")


@pytest.mark.parametrize("body", [b"\x0a\x05ab", b"\x08\x01", b"\x0b", b"\xff"])
def test_malformed(body: bytes) -> None:
    """GR-10: cut off, of the wrong wire type, a group, half a tag."""
    with pytest.raises(ValueError, match="offset"):
        MessageCodec(BytesMessage).decode(body)


@given(st.binary(max_size=60))
def test_decode_takes_anything(body: bytes) -> None:
    """What a peer sends is read into the declared types, or is a ValueError."""
    try:
        vertex = MessageCodec(Vertex).decode(body)
    except ValueError:
        return

    assert isinstance(vertex.name, str)


def test_bytes() -> None:
    assert BYTES.decode(BYTES.encode(b"as it is")) == b"as it is"
