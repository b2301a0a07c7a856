"""The codec of pieces of a file against the general one, which is the reference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.grpc.codec import MessageCodec
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.pieces import PIECES

GENERAL = MessageCodec(BytesMessage)
CONTENTS = st.one_of(st.binary(max_size=300), st.integers(0, 40_000).map(bytes))


def encoded(message: BytesMessage) -> bytes:
    body = PIECES.encode(message)
    return b"".join(body) if isinstance(body, tuple) else bytes(body)


def same_as_general(body: bytes) -> None:
    """Both codecs give equal messages, or both refuse; whatever holds the bytes."""
    try:
        expected = GENERAL.decode(body)
    except Exception as error:  # noqa: BLE001 - a codec may raise anything
        for form in (body, memoryview(body)):
            with pytest.raises(type(error)):
                PIECES.decode(form)
        return
    for form in (body, memoryview(body)):
        message = PIECES.decode(form)
        assert message == expected
        assert message._unknown_fields == expected._unknown_fields


@given(CONTENTS)
def test_pieces_are_written_and_read_as_by_the_general_codec(content: bytes) -> None:
    message = BytesMessage(data=content)
    assert encoded(message) == bytes(message)
    same_as_general(bytes(message))


@given(st.one_of(st.binary(max_size=40), CONTENTS.map(lambda data: bytes(BytesMessage(data)))), st.data())
def test_damaged_pieces_are_read_as_by_the_general_codec(body: bytes, data: st.DataObject) -> None:
    damaged = bytearray(body)
    start = data.draw(st.integers(0, len(damaged)))
    end = data.draw(st.integers(start, min(len(damaged), start + 2)))
    damaged[start:end] = data.draw(st.binary(max_size=2))
    same_as_general(bytes(damaged))


@pytest.mark.parametrize(
    "packet",
    [
        Packet(),
        Packet(stat=Stat(path=b"f", mode=0o644)),
        Packet(type=PacketPacketType.PACKET_REQ, id=1),
        Packet(type=PacketPacketType.PACKET_DATA, id=1, data=b"x"),
    ],
)
def test_packets_are_told_from_pieces(packet: Packet) -> None:
    """What a packet has is not lost, so that whoever takes pieces can refuse it."""
    same_as_general(bytes(packet))


def test_pieces_need_no_general_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(MessageCodec, "encode")
    monkeypatch.delattr(MessageCodec, "decode")
    message = BytesMessage(data=b"x" * 32_768)
    assert PIECES.decode(encoded(message)) == message
