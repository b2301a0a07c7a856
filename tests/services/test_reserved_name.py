"""The name that receivers of a metadata-only transfer keep to themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import pytest
from calls import ScriptedCall
from tricky_cases import tricky

from buildkit_session.messages.fsutil.types import Packet, PacketPacketType
from buildkit_session.services.filesync import FileSync

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from buildkit_session.grpc.incoming_call import IncomingCall

RESERVED: Final = b".fsutil-metadata"


class Receiver(ScriptedCall):
    """Takes a listing, asks for two of its files by the numbers it has counted, and says FIN when they are there.

    A metadata-only one neither keeps nor counts the reserved entry.

    Source: tonistiigi/fsutil:receive.go (receiver.run).
    """

    WANTED: Final = (b"Dockerfile", b"z")

    def __init__(self, *, metadata_only: bool, exclude: bytes = b"*.log") -> None:
        super().__init__(metadata=[(b"dir-name", b"context"), (b"exclude-patterns", exclude)])
        self.listed: list[bytes] = []
        self.contents: dict[bytes, bytes] = {}
        self._metadata_only = metadata_only
        self._answers: list[Packet] = []
        self._answered = anyio.Event()

    async def send_many(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            self._hear(packet)

    def _hear(self, packet: Packet) -> None:
        if packet.type == PacketPacketType.PACKET_DATA:
            self._take(self.listed[packet.id], packet.data)
        elif packet.type == PacketPacketType.PACKET_STAT and packet.stat is None:
            self._answer(*(Packet(type=PacketPacketType.PACKET_REQ, id=self.listed.index(n)) for n in self.WANTED))
        elif packet.stat is not None and not (self._metadata_only and packet.stat.path == RESERVED):
            self.listed.append(packet.stat.path)

    async def recv_many(self) -> list[Any]:
        await self._answered.wait()
        answers, self._answers = self._answers, []
        self._answered = anyio.Event()
        return answers

    def _take(self, path: bytes, data: bytes) -> None:
        self.contents[path] = self.contents.get(path, b"") + bytes(data)
        if not data and len(self.contents) == len(self.WANTED):
            self._answer(Packet(type=PacketPacketType.PACKET_FIN))

    def _answer(self, *packets: Packet) -> None:
        self._answers += packets
        self._answered.set()


@pytest.fixture
def root_fd(tmp_path: Path) -> Iterator[int]:
    """Two files behind the reserved one, and one of its name where it is nothing special."""
    for name in (".fsutil-metadata", "Dockerfile", "sub/.fsutil-metadata", "z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def serve(service: FileSync, receiver: Receiver) -> Receiver:
    (route,) = [route for route in service.routes() if route.path.endswith("/DiffCopy")]

    async def main() -> None:
        with anyio.fail_after(60):
            await route.handler(cast("IncomingCall[Any, Any]", receiver))

    anyio.run(main)
    return receiver


@tricky(40)
@pytest.mark.parametrize("exclude", [b"*.log", b"!.fsutil-metadata"])
def test_it_is_not_sent_where_it_would_not_be_counted(root_fd: int, exclude: bytes) -> None:
    """Whatever the ignore file says; every file keeps its own content."""
    service = FileSync({"context": root_fd}, metadata_only=["context"])
    receiver = serve(service, Receiver(metadata_only=True, exclude=exclude))
    assert receiver.contents == {b"Dockerfile": b"Dockerfile", b"z": b"z"}
    assert receiver.listed == [b"Dockerfile", b"sub", b"sub/.fsutil-metadata", b"z"]


@tricky(40)
@pytest.mark.parametrize("others", [[], ["dockerfile"]])
def test_elsewhere_it_is_a_file_like_any_other(root_fd: int, others: list[str]) -> None:
    receiver = serve(FileSync({"context": root_fd}, metadata_only=others), Receiver(metadata_only=False))
    assert receiver.listed[0] == RESERVED
    assert receiver.contents == {b"Dockerfile": b"Dockerfile", b"z": b"z"}
