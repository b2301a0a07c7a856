"""Two ends of a DiffCopy channel joined in memory, and scripts for a daemon at one of them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import anyio

from buildkit_session.errors import SessionError, StreamReset, first_cause
from buildkit_session.fsutil.modes import GoMode
from buildkit_session.fsutil.options import DEFAULT
from buildkit_session.fsutil.packets import ERR, FIN, REQ, data_packet, end_of_data, fin_packet, stat_packet
from buildkit_session.fsutil.receiver import receive_tree
from buildkit_session.fsutil.sender import send_tree
from buildkit_session.fsutil.walk import Filter
from buildkit_session.messages.fsutil.types import Packet, Stat

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from pathlib import Path

    from buildkit_session.fsutil.disk import Written
    from buildkit_session.fsutil.options import ReceiveOptions

T = TypeVar("T")

ANY_TIME = 1_700_000_000_123_456_789


class End:
    """One end. What is sent here is encoded, and arrives at ``peer`` decoded, as over a real stream."""

    def __init__(self) -> None:
        self.peer: End
        self.sent: list[Packet] = []
        self.on_use: Callable[[], None] = lambda: None
        self.room = anyio.Event()
        self.room.set()
        self._arrived: list[bytes] = []
        self._ended = False
        self._failed = False
        self._news = anyio.Event()

    async def recv_many(self) -> list[Packet]:
        self.on_use()
        await anyio.lowlevel.checkpoint()
        while not self._arrived:
            if self._failed:
                raise StreamReset(8, by="peer")
            if self._ended:
                return []
            self._news = anyio.Event()
            await self._news.wait()
        packets = [Packet.parse(body) for body in self._arrived]
        self._arrived.clear()
        return packets

    async def send(self, packet: Packet, /) -> None:
        await self.send_many([packet])

    async def send_many(self, packets: Sequence[Packet], /) -> None:
        self.on_use()
        if self._failed:
            raise StreamReset(8, by="peer")
        for packet in packets:
            self.sent.append(packet)
            self.peer.arrive(bytes(packet))
        if not self.room.is_set():
            await self.room.wait()

    def arrive(self, body: bytes) -> None:
        self._arrived.append(body)
        self._news.set()

    def end(self) -> None:
        """Say that this end sends nothing more."""
        self.peer._ended = True
        self.peer._news.set()

    def reset(self) -> None:
        """Break both directions."""
        for end in (self, self.peer):
            end._failed = True
            end._news.set()


def joined() -> tuple[End, End]:
    ours, theirs = End(), End()
    ours.peer, theirs.peer = theirs, ours
    return ours, theirs


class Daemon:
    """The far end; its methods read like the lines of a transcript."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.received: list[Packet] = []

    async def stat(self, *entries: Stat) -> None:
        for entry in entries:
            await self.end.send(stat_packet(entry))

    async def end_of_list(self) -> None:
        await self.end.send(stat_packet(None))

    async def req(self, *numbers: int) -> None:
        for number in numbers:
            await self.end.send(Packet(type=REQ, id=number))

    async def data(self, number: int, *pieces: bytes) -> None:
        """The pieces, then the end of the data."""
        for piece in pieces:
            await self.end.send(data_packet(number, piece))
        await self.end.send(end_of_data(number))

    async def piece(self, number: int, piece: bytes) -> None:
        await self.end.send(data_packet(number, piece))

    async def fin(self) -> None:
        await self.end.send(fin_packet())

    async def err(self, text: bytes) -> None:
        await self.end.send(Packet(type=ERR, data=text))

    async def next(self) -> Packet:
        """The next packet from the client."""
        while not self.received:
            self.received += await self.end.recv_many()
            assert self.received, "the client ended its side"
        return self.received.pop(0)

    async def until(self, kind: int) -> list[Packet]:
        """Everything from the client up to a packet of a kind, which is the last of the result."""
        packets = [await self.next()]
        while packets[-1].type != kind:
            packets.append(await self.next())
        return packets


@dataclass(frozen=True)
class Entry:
    """An entry of a listing, and its content if it has some."""

    stat: Stat
    content: bytes | None = None


def file(path: bytes, content: bytes = b"content", mode: int = 0o644, *, mtime: int = ANY_TIME) -> Entry:
    return Entry(Stat(path=path, mode=mode, size=len(content), mod_time=mtime), content)


def directory(path: bytes, mode: int = 0o755, *, mtime: int = ANY_TIME) -> Entry:
    return Entry(Stat(path=path, mode=mode | GoMode.DIR, mod_time=mtime))


def symlink(path: bytes, target: bytes, *, mtime: int = ANY_TIME) -> Entry:
    return Entry(Stat(path=path, mode=0o777 | GoMode.SYMLINK, size=len(target), linkname=target, mod_time=mtime))


def hard_link(path: bytes, source: bytes) -> Entry:
    return Entry(Stat(path=path, mode=0o644, size=7, linkname=source, mod_time=ANY_TIME))


def fifo(path: bytes, mode: int = 0o640) -> Entry:
    return Entry(Stat(path=path, mode=mode | GoMode.NAMED_PIPE, mod_time=ANY_TIME))


async def export(daemon: Daemon, entries: Iterable[Entry]) -> None:
    """What a daemon does that keeps to the protocol, whatever the entries are."""
    entries = list(entries)
    await daemon.stat(*(entry.stat for entry in entries))
    await daemon.end_of_list()
    while (packet := await daemon.next()).type == REQ:
        content = entries[packet.id].content
        assert content is not None, f"entry {packet.id} was requested"
        await daemon.data(packet.id, *([content] if content else []))
    if packet.type == FIN:
        await daemon.fin()


@dataclass
class Received:
    """The end of an export."""

    written: Written | None = None
    error: Exception | None = None
    sent: list[Packet] = field(default_factory=list)

    def told(self) -> str:
        """The text of the error packet that the client sent."""
        (packet,) = [packet for packet in self.sent if packet.type == ERR]
        return packet.data.decode()

    def asked(self) -> list[int]:
        """The numbers of the entries whose content was asked for."""
        return [packet.id for packet in self.sent if packet.type == REQ]


async def together(ours: End, client: Awaitable[T], script: Awaitable[object]) -> T:
    """Run the client against a script, which must come to its own end, whatever becomes of the client."""

    async def run_script() -> None:
        await script

    try:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run_script)
                try:
                    result = await client
                    failure = None
                except SessionError as error:
                    failure = error
                ours.end()
    except BaseExceptionGroup as group:
        cause = first_cause(group)
        raise cause from cause.__cause__
    if failure is not None:
        raise failure
    return result


def device(path: bytes, kind: int, major: int, minor: int, mode: int = 0o666) -> Entry:
    return Entry(Stat(path=path, mode=mode | kind, devmajor=major, devminor=minor, mod_time=ANY_TIME))


def receive(dest: Path, script: Callable[[Daemon], Awaitable[None]], options: ReceiveOptions = DEFAULT) -> Received:
    """Receive into a directory from a scripted daemon."""
    received = Received()

    async def main() -> None:
        ours, theirs = joined()
        root_fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY)
        try:
            received.written = await together(ours, receive_tree(ours, root_fd, options), script(Daemon(theirs)))
        except SessionError as error:
            received.error = error
        finally:
            os.close(root_fd)
            received.sent = ours.sent

    anyio.run(main)
    return received


def receive_entries(dest: Path, *entries: Entry, options: ReceiveOptions = DEFAULT) -> Received:
    """Receive a listing whose contents are all delivered."""
    return receive(dest, lambda daemon: export(daemon, entries), options)


def send(root: Path, script: Callable[[Daemon], Awaitable[None]], filtered: Filter | None = None) -> list[Packet]:
    """Send a directory to a scripted daemon; returns what was sent."""

    async def main() -> list[Packet]:
        ours, theirs = joined()
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            await together(ours, send_tree(ours, root_fd, filtered or Filter()), script(Daemon(theirs)))
        finally:
            os.close(root_fd)
            sent[:] = ours.sent
        return ours.sent

    sent: list[Packet] = []
    anyio.run(main)
    return sent


def round_trip(source: Path, dest: Path) -> Written:
    """Send one directory into another."""

    async def main() -> Written:
        ours, theirs = joined()
        source_fd, dest_fd = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, dest))
        try:
            return await together(ours, receive_tree(ours, dest_fd), send_tree(theirs, source_fd, Filter()))
        finally:
            os.close(source_fd)
            os.close(dest_fd)

    return anyio.run(main)


def tree(root: Path) -> dict[bytes, tuple[object, ...]]:
    """All that a transfer preserves of what is below a directory, by path; hard links by their first name."""
    found: dict[bytes, tuple[object, ...]] = {}
    first_names: dict[int, bytes] = {}
    top = os.fsencode(root)
    for parent, directories, files in sorted(os.walk(top)):
        for name in sorted([*directories, *files]):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            relative = os.path.relpath(path, top)
            first = relative if stat.S_ISDIR(status.st_mode) else first_names.setdefault(status.st_ino, relative)
            body = b""
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as stream:
                    body = stream.read()
            elif stat.S_ISLNK(status.st_mode):
                body = os.readlink(path)
            found[relative] = (oct(status.st_mode), status.st_mtime_ns, first, body)
    return found


def open_descriptors() -> dict[str, str]:
    """The descriptors this process has open, and what they are, but sockets: daemons drop theirs when they like."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that listed the directory
    return {name: what for name, what in found.items() if not what.startswith("socket:")}


def temporary_names(root: Path) -> list[bytes]:
    """What is left over below a directory."""
    return [
        os.path.join(parent, name)
        for parent, directories, files in os.walk(os.fsencode(root))
        for name in [*directories, *files]
        if name.startswith(b".tmp.")
    ]
