"""Quotas of exports: one for all streams of a target, and nothing is left of what was to appear whole."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from calls import ScriptedCall

from buildkit_session.errors import QuotaExceeded
from buildkit_session.fsutil.options import ReceiveOptions
from buildkit_session.fsutil.quota import Limits
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.targets import DirectoryTarget, FileTarget, StreamTarget

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.services.placement import PlacementMode

Target = DirectoryTarget | FileTarget | StreamTarget

FIN = Packet(type=PacketPacketType.PACKET_FIN)


def receive(target: Target, *batches: list[Any]) -> ScriptedCall:
    call = ScriptedCall(*batches)

    async def main() -> None:
        with anyio.fail_after(60):
            await target.receive(cast("IncomingCall[Any, Any]", call))

    anyio.run(main)
    return call


def pieces(*data: bytes) -> list[BytesMessage]:
    return [BytesMessage(data=piece) for piece in data]


def listing(*paths: bytes) -> list[Packet]:
    return [*(Packet(stat=Stat(path=path, mode=0x80000000 | 0o755)) for path in paths), Packet()]


def test_an_archive_may_be_as_large_as_allowed(tmp_path: Path) -> None:
    receive(FileTarget(tmp_path / "a.tar", Limits(max_bytes=6)), pieces(b"ab", b"c"), pieces(b"def"))
    assert (tmp_path / "a.tar").read_bytes() == b"abcdef"


@pytest.mark.parametrize("old", [None, b"old"])
def test_of_a_larger_archive_nothing_is_left(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "a.tar"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(QuotaExceeded, match="more than 5 bytes; raise max_bytes"):
        receive(FileTarget(path, Limits(max_bytes=5)), pieces(b"ab", b"c"), pieces(b"d", b"ef"))
    assert (path.read_bytes() if path.exists() else None) == old
    assert os.listdir(tmp_path) == ([] if old is None else ["a.tar"])


def test_a_stream_gets_no_byte_beyond_the_limit() -> None:
    stream = io.BytesIO()
    with pytest.raises(QuotaExceeded):
        receive(StreamTarget(stream, Limits(max_bytes=4)), pieces(b"abc"), pieces(b"d", b"ef"), pieces(b"never"))
    assert stream.getvalue() == b"abc"


def test_platforms_share_the_limit(tmp_path: Path) -> None:
    """Each of them alone would be within it."""
    target = DirectoryTarget(tmp_path / "out", ReceiveOptions(limits=Limits(max_entries=3)))
    receive(target, listing(b"amd64", b"amd64/bin"), [FIN])
    with pytest.raises(QuotaExceeded):
        receive(target, listing(b"arm64", b"arm64/bin"))


@pytest.mark.parametrize(("mode", "left"), [("merge", {"old", "a"}), ("mirror", {"old", "a"}), ("swap", {"old"})])
def test_a_directory_is_left_as_by_any_failed_export(tmp_path: Path, mode: PlacementMode, left: set[str]) -> None:
    """The daemon is told; ``swap`` leaves nothing of the export, and ``mirror`` removes nothing."""
    dest = tmp_path / "out"
    (dest / "old").mkdir(parents=True)
    target = DirectoryTarget(dest, ReceiveOptions(limits=Limits(max_entries=1)), mode=mode)
    call = ScriptedCall(listing(b"a", b"b"))

    async def main() -> None:
        with pytest.raises(QuotaExceeded):
            await target.receive(cast("IncomingCall[Any, Any]", call))
        with pytest.raises(QuotaExceeded):
            await target.finished()
        await target.abandon()

    anyio.run(main)
    assert set(os.listdir(dest)) == left
    assert os.listdir(tmp_path) == ["out"]
    assert [packet.type for packet in call.sent] == [PacketPacketType.PACKET_ERR]
    assert b"more than 1 entries" in call.sent[0].data
