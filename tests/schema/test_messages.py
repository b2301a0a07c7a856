"""The generated messages mean on the wire what BuildKit means by them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat
from buildkit_session.messages.google.protobuf import Any
from buildkit_session.messages.google.rpc import Status
from buildkit_session.messages.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthCheckResponseServingStatus,
)
from buildkit_session.messages.moby.buildkit.v1 import SolveRequest, StatusResponse, Vertex, VertexStatus
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.messages.nanotime import Timestamp
from buildkit_session.messages.pb import Definition
from buildkit_session.messages.pb.ops import UserOpt

if TYPE_CHECKING:
    from betterproto2 import Message

UINT32 = st.integers(0, 2**32 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)

STATS = st.builds(
    Stat,
    path=st.binary(max_size=40),
    mode=UINT32,
    uid=UINT32,
    gid=UINT32,
    size=INT64,
    mod_time=INT64,
    linkname=st.binary(max_size=40),
    devmajor=INT64,
    devminor=INT64,
    xattrs=st.dictionaries(st.text(max_size=8), st.binary(max_size=8), max_size=3),
)
PACKETS = st.builds(
    Packet,
    type=st.sampled_from(PacketPacketType),
    stat=st.none() | STATS,
    id=UINT32,
    data=st.binary(max_size=100),
)
BYTES_MESSAGES = st.builds(BytesMessage, data=st.binary(max_size=100))

# Sent by Docker Engine 28.5.2 when it began to write an image.
CAPTURED_STATUS = base64.b64decode(
    "CmsKR3NoYTI1NjpmMWM5ZDIzNTNhOWRlZjgwOTI2OGRmMjhhMjU4YzExNTA2ODcxMWE0ZmFiYzM1MjNkOGJhZDIxOTgyMDc3MjFjGhJleHBv"
    "cnRpbmcgdG8gaW1hZ2UqDAjs0ZLYBhDwu9PQARJ3ChBleHBvcnRpbmcgbGF5ZXJzEkdzaGEyNTY6ZjFjOWQyMzUzYTlkZWY4MDkyNjhkZjI4"
    "YTI1OGMxMTUwNjg3MTFhNGZhYmMzNTIzZDhiYWQyMTk4MjA3NzIxYzIMCOzRktgGELr509ABOgwI7NGS2AYQg/fT0AE="
)
CAPTURED_DIGEST = "sha256:f1c9d2353a9def809268df28a258c115068711a4fabc3523d8bad2198207721c"


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        pytest.param(Packet(), "", id="end-of-entries"),
        pytest.param(Packet(type=PacketPacketType.PACKET_REQ, id=0), "08 01", id="request-0"),
        pytest.param(Packet(type=PacketPacketType.PACKET_REQ, id=300), "08 01 18 ac 02", id="request-300"),
        pytest.param(Packet(type=PacketPacketType.PACKET_DATA, id=0), "08 02", id="end-of-data-0"),
        pytest.param(Packet(type=PacketPacketType.PACKET_DATA, id=1, data=b"ab"), "08 02 18 01 22 02 61 62", id="data"),
        pytest.param(Packet(type=PacketPacketType.PACKET_FIN), "08 03", id="fin"),
        pytest.param(Packet(type=PacketPacketType.PACKET_ERR, data=b"no"), "08 04 22 02 6e 6f", id="error"),
        pytest.param(Packet(stat=Stat(path=b"a")), "12 03 0a 01 61", id="entry"),
        pytest.param(Packet(stat=Stat()), "12 00", id="empty-entry-is-not-the-end"),
        pytest.param(Stat(mod_time=-1), "30 ff ff ff ff ff ff ff ff ff 01", id="time-before-1970"),
        pytest.param(HealthCheckRequest(), "", id="health-request"),
        pytest.param(HealthCheckResponse(status=HealthCheckResponseServingStatus.SERVING), "08 01", id="serving"),
        pytest.param(BytesMessage(data=b"ab"), "0a 02 61 62", id="bytes"),
        pytest.param(SolveRequest(definition=Definition()), "12 00", id="empty-definition-is-not-absent"),
        pytest.param(UserOpt(by_id=0), "10 00", id="root-is-not-absent"),
    ],
)
def test_wire_form(message: Message, wire: str) -> None:
    """A message has exactly these bytes, and these bytes are that message."""
    assert bytes(message) == bytes.fromhex(wire)
    assert type(message).parse(bytes.fromhex(wire)) == message


def test_stat_tags() -> None:
    """Every field of a Stat has upstream's number and type."""
    stat = Stat(
        path=b"p",
        mode=0o644,
        uid=1,
        gid=2,
        size=3,
        mod_time=4,
        linkname=b"l",
        devmajor=5,
        devminor=6,
        xattrs={"k": b"v"},
    )
    wire = "0a0170 10a403 1801 2002 2803 3004 3a016c 4005 4806 52060a016b120176"
    assert bytes(stat) == bytes.fromhex(wire)


@given(st.one_of(STATS, PACKETS, BYTES_MESSAGES))
def test_round_trip(message: Message) -> None:
    """Nothing is lost between a message and its bytes."""
    assert type(message).parse(bytes(message)) == message


def test_names_need_not_be_utf8() -> None:
    """The name of a file, and what a link says, are kept as they are."""
    stat = Stat.parse(bytes(Stat(path=b"caf\xe9", linkname=b"../\xff")))
    assert (stat.path, stat.linkname) == (b"caf\xe9", b"../\xff")


@pytest.mark.parametrize(
    ("message", "unknown"),
    [
        pytest.param(Packet(type=PacketPacketType.PACKET_REQ, id=7), "98 06 01", id="varint"),
        pytest.param(Packet(stat=Stat(path=b"a")), "9a 06 02 61 62", id="bytes"),
        pytest.param(BytesMessage(data=b"ab"), "9d 06 01 02 03 04", id="fixed32"),
    ],
)
def test_unknown_fields_are_tolerated(message: Message, unknown: str) -> None:
    """A field that a later BuildKit adds disturbs no field that is known, and is passed on."""
    extended = bytes(message) + bytes.fromhex(unknown)
    parsed = type(message).parse(extended)
    assert parsed.to_dict() == message.to_dict()
    assert bytes(parsed) == extended


def test_unknown_packet_type_is_kept() -> None:
    """A packet of a kind that is not known yet can be told from all others."""
    packet = Packet.parse(bytes.fromhex("08 63"))
    assert packet.type == 99
    assert packet.type not in set(PacketPacketType)


def test_captured_status() -> None:
    """Progress of a real daemon is understood whole, and exact to the nanosecond."""
    status = StatusResponse.parse(CAPTURED_STATUS)
    assert status == StatusResponse(
        vertexes=[
            Vertex(
                digest=CAPTURED_DIGEST,
                name="exporting to image",
                started=Timestamp(seconds=1795467500, nanos=437575152),
            )
        ],
        statuses=[
            VertexStatus(
                id="exporting layers",
                vertex=CAPTURED_DIGEST,
                timestamp=Timestamp(seconds=1795467500, nanos=437583034),
                started=Timestamp(seconds=1795467500, nanos=437582723),
            )
        ],
    )
    assert bytes(status) == CAPTURED_STATUS


def test_status_details_need_no_known_type() -> None:
    """Details of an error are read as they are: BuildKit's are JSON under a name that is no message."""
    detail = Any(type_url="github.com/moby/buildkit/errdefs.Vertex+json", value=b'{"digest":"sha256:00"}')
    status = Status(code=2, message="process did not complete", details=[detail])

    parsed = Status.parse(bytes(status))

    assert (parsed.code, parsed.message) == (2, "process did not complete")
    assert [(any_.type_url, any_.value) for any_ in parsed.details] == [(detail.type_url, detail.value)]
