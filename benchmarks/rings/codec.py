"""Ring "codec": messages to bytes and back, the session's codecs beside what betterproto2 generates from the schema."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.results import OURS
from buildkit_session.grpc.metadata import Metadata
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.filesync import FileSync
from buildkit_session.services.pieces import PIECES
from buildkit_session.services.targets import DirectoryTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    import betterproto2

    from benchmarks.workbench import Workbench
    from buildkit_session.grpc.codec import Codec

__all__ = ["run"]

RING: Final = "codec"
GENERATED: Final = "betterproto2"
TIME: Final = "us/message"

PIECE: Final = bytes(range(256)) * 128  # 32 KiB: what daemons send at once
STAT: Final = Packet(
    type=PacketPacketType.PACKET_STAT,
    stat=Stat(path=b"src/package/module/file_name.py", mode=0o644, size=4096, mod_time=1_700_000_000_123_456_789),
)
REQ: Final = Packet(type=PacketPacketType.PACKET_REQ, id=4711)
DATA: Final = Packet(type=PacketPacketType.PACKET_DATA, id=4711, data=PIECE)


def run(bench: Workbench) -> None:
    """Measure every hot message in the directions in which a session handles it."""
    sent = next(iter(FileSync({}).routes())).select(Metadata())
    received = DirectoryTarget.codecs
    _encode(bench, "encode STAT", STAT, sent.response)
    _encode(bench, "encode DATA, 32 KiB", DATA, sent.response)
    _decode(bench, "decode REQ", REQ, sent.request)
    _decode(bench, "decode STAT", STAT, received.request)
    _decode(bench, "decode DATA, 32 KiB", DATA, received.request)
    _encode(bench, "encode REQ", REQ, received.response)
    _decode(bench, "decode BytesMessage, 32 KiB", BytesMessage(data=PIECE), PIECES)


def _encode(bench: Workbench, work: str, message: betterproto2.Message, codec: Codec[Any]) -> None:
    # The codec's own type of message, whatever that is.
    own = codec.decode(bytes(message))
    _measure(bench, work, lambda: codec.encode(own), lambda: bytes(message))


def _decode(bench: Workbench, work: str, message: betterproto2.Message, codec: Codec[Any]) -> None:
    body, generated = bytes(message), type(message)
    _measure(bench, work, lambda: codec.decode(body), lambda: generated.parse(body))


def _measure(bench: Workbench, work: str, ours: Callable[[], object], generated: Callable[[], object]) -> None:
    count = bench.scale.messages
    contestants = [(bench.results.new(RING, work, who), act) for who, act in ((OURS, ours), (GENERATED, generated))]
    for _ in range(bench.scale.runs):
        for measurement, act in contestants:
            start = time.perf_counter()
            for _ in range(count):
                act()
            measurement.add({TIME: (time.perf_counter() - start) / count * 1e6})
