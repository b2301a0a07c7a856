"""Sharing directories by name, and the filter in the metadata."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from calls import ScriptedCall
from tricky_cases import tricky

from buildkit_session.errors import RpcError
from buildkit_session.grpc.status import Status
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType
from buildkit_session.services.filesync import FileSync

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from buildkit_session.grpc.incoming_call import IncomingCall

Fields = list[tuple[bytes, bytes]]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FileSync]:
    for name in ("a b", "a%20b", "a+b", "c", "\u00e9", "keep.log", "x.log"):
        (tmp_path / name).write_bytes(b"")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield FileSync({"context": descriptor})
    os.close(descriptor)


def call(service: FileSync, metadata: Fields, method: str = "DiffCopy") -> ScriptedCall:
    """Ask, and say FIN only when the listing is there."""

    class Asks(ScriptedCall):
        async def recv_many(self) -> list[Any]:
            await listing_ended.wait()
            return await super().recv_many()

        async def send_many(self, messages: Sequence[Any]) -> None:
            await super().send_many(messages)
            if any(message.type == PacketPacketType.PACKET_STAT and message.stat is None for message in messages):
                listing_ended.set()

    listing_ended = anyio.Event()
    asked = Asks([Packet(type=PacketPacketType.PACKET_FIN)], metadata=metadata)
    (route,) = [route for route in service.routes() if route.path.endswith(f"/{method}")]

    async def main() -> None:
        with anyio.fail_after(60):
            await route.handler(cast("IncomingCall[Any, Any]", asked))

    anyio.run(main)
    return asked


def listed(service: FileSync, metadata: Fields) -> set[str]:
    packets: list[Packet] = call(service, [(b"dir-name", b"context"), *metadata]).sent
    return {packet.stat.path.decode() for packet in packets if packet.stat is not None}


def test_a_share_is_listed(service: FileSync) -> None:
    assert listed(service, []) == {"a b", "a%20b", "a+b", "c", "\u00e9", "keep.log", "x.log"}


@pytest.mark.parametrize("metadata", [[], [(b"dir-name", b"")], [(b"dir-name", b"Context")], [(b"dir-name", b"../x")]])
def test_other_names_are_not_found(service: FileSync, metadata: Fields) -> None:
    """DS-01."""
    with pytest.raises(RpcError) as caught:
        call(service, metadata)
    assert caught.value.code == Status.NOT_FOUND
    assert "no access allowed to dir" in caught.value.message


@tricky(10)
@pytest.mark.parametrize(
    ("value", "encoded", "expected"),
    [
        (b"a%20b", None, {"a%20b"}),
        (b"a%20b", b"0", {"a%20b"}),
        (b"a%20b", b"yes", {"a%20b"}),
        (b"a%20b", b"1", {"a b"}),
        (b"a+b", None, {"a+b"}),
        (b"a+b", b"true", {"a b"}),
        (b"%C3%A9", b"1", {"\u00e9"}),
        (b"\xc3\xa9", None, {"\u00e9"}),
    ],
)
def test_values_are_encoded_only_where_it_is_said(
    service: FileSync, value: bytes, encoded: bytes | None, expected: set[str]
) -> None:
    """FP-12: a literal percent sign means itself, as it always does for old daemons."""
    marker = [(b"include-patterns-encoded", encoded)] if encoded is not None else []
    assert listed(service, [(b"include-patterns", value), *marker]) == expected


def test_the_marker_is_for_its_key_alone(service: FileSync) -> None:
    fields = [(b"followpaths", b"a%20b"), (b"include-patterns", b"c"), (b"include-patterns-encoded", b"1")]
    assert listed(service, fields) == {"a%20b", "c"}


@tricky(10)
@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        ([b"*.log", b"!keep.log"], {"keep.log"}),
        ([b"!keep.log", b"*.log"], set()),
        ([b"*.log,!keep.log"], {"keep.log", "x.log"}),
    ],
)
def test_patterns_keep_their_order(service: FileSync, patterns: list[bytes], kept: set[str]) -> None:
    """The last match wins; values are not split at commas."""
    names = listed(service, [(b"exclude-patterns", pattern) for pattern in patterns])
    assert {name for name in names if name.endswith(".log")} == kept


def test_a_malformed_pattern_is_an_invalid_argument(service: FileSync) -> None:
    """FP-09: each time."""
    for _ in range(2):
        with pytest.raises(RpcError) as caught:
            call(service, [(b"dir-name", b"context"), (b"exclude-patterns", b"a[")])
        assert caught.value.code == Status.INVALID_ARGUMENT


def test_tar_streams_are_refused(service: FileSync) -> None:
    """DS-17."""
    with pytest.raises(RpcError) as caught:
        call(service, [(b"dir-name", b"context")], "TarStream")
    assert caught.value.code == Status.UNIMPLEMENTED
