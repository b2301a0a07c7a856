"""The packet codec against the general one, which is the reference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.fsutil.packets import data_packet, end_of_data, err_packet, fin_packet, req_packet, stat_packet
from buildkit_session.fsutil.wire import PACKETS, SMALL
from buildkit_session.grpc.codec import MessageCodec
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat

GENERAL = MessageCodec(Packet)

# Around each length that a number can have on the wire, and what is beyond the type of the field.
EDGES = st.sampled_from([edge + near for edge in (1 << bits for bits in range(0, 64, 7)) for near in (-1, 0, 1)])
UINT32 = st.one_of(EDGES.filter(lambda value: value < 1 << 32), st.integers(0, (1 << 32) - 1))
INT64 = st.one_of(EDGES.filter(lambda value: value < 1 << 63), st.integers(-(1 << 63), (1 << 63) - 1))
STRINGS = st.binary(max_size=200)

STATS = st.builds(
    Stat,
    path=STRINGS,
    mode=UINT32,
    uid=UINT32,
    gid=UINT32,
    size=INT64,
    mod_time=INT64,
    linkname=STRINGS,
    devmajor=INT64,
    devminor=INT64,
    xattrs=st.one_of(st.just({}), st.dictionaries(st.text(max_size=5), st.binary(max_size=5), max_size=2)),
)
PACKET_TYPES = st.one_of(st.sampled_from(PacketPacketType), UINT32.map(PacketPacketType))
PACKETS_OF_ANY_KIND = st.builds(
    Packet, type=PACKET_TYPES, stat=st.one_of(st.none(), STATS), id=UINT32, data=st.binary(max_size=300)
)
USUAL_PACKETS = st.one_of(
    STATS.map(stat_packet), UINT32.map(req_packet), st.builds(data_packet, UINT32, st.binary(min_size=1, max_size=300))
)
ANY_PACKETS = st.one_of(USUAL_PACKETS, PACKETS_OF_ANY_KIND)


def encoded(packet: Packet) -> bytes:
    body = PACKETS.encode(packet)
    return b"".join(body) if isinstance(body, tuple) else bytes(body)


def same_as_general(body: bytes) -> None:
    """Both codecs give equal packets, or both refuse; whatever holds the bytes."""
    try:
        expected = GENERAL.decode(body)
    except Exception as error:  # noqa: BLE001 - a codec may raise anything
        for form in (body, memoryview(body)):
            with pytest.raises(type(error)):
                PACKETS.decode(form)
        return
    for form in (body, memoryview(body)):
        packet = PACKETS.decode(form)
        assert packet == expected
        assert packet._unknown_fields == expected._unknown_fields
        # A number that equals the enum member would not do.
        assert type(packet.type) is PacketPacketType
        assert encoded(packet) == bytes(expected)
        if packet.stat is not None:
            assert type(packet.stat.path) is bytes
            assert type(packet.stat.linkname) is bytes


@given(ANY_PACKETS)
def test_packets_are_written_as_by_the_general_codec(packet: Packet) -> None:
    assert encoded(packet) == bytes(packet)


@given(ANY_PACKETS)
def test_packets_are_read_as_by_the_general_codec(packet: Packet) -> None:
    same_as_general(bytes(packet))


@given(ANY_PACKETS.map(bytes), st.data())
def test_damaged_packets_are_read_as_by_the_general_codec(body: bytes, data: st.DataObject) -> None:
    """Bytes replaced, inserted and removed, anywhere."""
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged)))
        end = data.draw(st.integers(start, min(len(damaged), start + 2)))
        damaged[start:end] = data.draw(st.binary(max_size=2))
    same_as_general(bytes(damaged))


# Keys of fields with small numbers, in any wire type, and lengths that are right now and then.
SNIPPETS = st.sampled_from([bytes((number << 3 | wire_type,)) for number in range(1, 12) for wire_type in range(6)])


@given(st.lists(st.one_of(SNIPPETS, STATS.map(bytes), st.binary(max_size=3)), max_size=8).map(b"".join), st.booleans())
def test_bytes_of_any_kind_are_read_as_by_the_general_codec(fields: bytes, in_stat: bool) -> None:
    """Fields of any number, type and order, on their own and as those of an entry."""
    same_as_general(bytes(Packet(data=fields)).replace(b"\x22", b"\x12", 1) if in_stat else fields)


@pytest.mark.parametrize(
    "packet",
    [
        stat_packet(None),
        stat_packet(Stat()),
        stat_packet(Stat(path=b"d/f", mode=0o644, size=4096, mod_time=1_700_000_000_123_456_789)),
        stat_packet(Stat(path=b"\xff" * 4095, mode=1 << 27 | 0o777, linkname=b"x" * 4095, mod_time=1)),
        req_packet(0),
        req_packet(1_000_000),
        data_packet(1, b"x"),
        data_packet(1, b"x" * 100_000),
        end_of_data(1),
        fin_packet(),
        err_packet("no"),
    ],
)
def test_packets_of_a_transfer_need_no_general_codec(packet: Packet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways are in use: were the quick one left for nothing, no other test would tell."""
    monkeypatch.delattr(MessageCodec, "encode")
    monkeypatch.delattr(MessageCodec, "decode")
    assert PACKETS.decode(encoded(packet)) == packet


def test_large_content_is_not_copied() -> None:
    content = b"x" * (SMALL + 1)
    body = PACKETS.encode(data_packet(1, content))
    assert isinstance(body, tuple)
    assert body[1] is content
    received = b"".join(body)
    data: object = PACKETS.decode(received).data
    assert isinstance(data, memoryview)
    assert data.obj is received


def test_a_number_without_end_is_not_read_to_its_end() -> None:
    """The work is bounded by what a number may have, not by the length of the message."""
    with pytest.raises(ValueError, match="longer than 64 bits"):
        PACKETS.decode(b"\x08\x01\x18" + b"\xff" * 1_000_000)
