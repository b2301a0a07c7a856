"""DiffCopy, the receiving side: takes a listing, asks for the content of every file and writes it all to a disk.

At most ``OUTSTANDING`` requests are open at a time. The daemon's sender has four readers and a queue of 128 requests,
and stops taking requests when that is full; a receiver that sends thousands at once can then block it for good, as
both sides wait for each other. Below the queue's length the daemon always takes requests, so ours can never be stuck,
and one task may both read and ask.

Source: tonistiigi/fsutil:receive.go, send.go (queue lengths); moby/buildkit issue 2950 (the deadlock).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from anyio import CancelScope, to_thread

from buildkit_session.errors import RemoteProtocolError, TransferError
from buildkit_session.fsutil.disk import DirectoryWriter, Written
from buildkit_session.fsutil.modes import is_plain_file, to_posix
from buildkit_session.fsutil.packets import DATA, ERR, FIN, STAT, fin_packet, give_up, peer_error, req_packet
from buildkit_session.fsutil.validate import ListingCheck, shown

if TYPE_CHECKING:
    from buildkit_session.fsutil.packets import Channel
    from buildkit_session.messages.fsutil.types import Packet, Stat

__all__ = ["receive_tree"]

OUTSTANDING: Final = 64
"""Requests under way; half the daemon's queue."""


async def receive_tree(channel: Channel, root_fd: int) -> Written:
    """Receive a tree into the directory ``root_fd``, merging with what is there.

    When this returns, everything is in place and the sender has confirmed the end. When it raises or is cancelled,
    complete entries stay and incomplete ones are removed; the sender is told of an error.

    Raises:
        TransferError: something could not be written, the sender gave up, or it ended early.
        RemoteProtocolError: the listing or the data break the rules; nothing of the offending entry was written.
        StreamReset: the sender went away.
    """
    try:
        written = await _write_tree(channel, root_fd)
        await channel.send(fin_packet())
        await _wait_for_fin(channel)
    except (TransferError, RemoteProtocolError) as error:
        await give_up(channel, error)
        raise
    return written


async def _write_tree(channel: Channel, root_fd: int) -> Written:
    writer = DirectoryWriter(root_fd)
    receiver = _Receiver(writer)
    try:
        while not receiver.complete:
            packets = await channel.recv_many()
            if not packets:
                raise TransferError("the daemon ended the transfer early; the directory is incomplete")
            await to_thread.run_sync(receiver.take, packets)
            for entry_id in receiver.requests():
                await channel.send(req_packet(entry_id))
        await to_thread.run_sync(writer.finish)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(writer.close)
    return writer.written


async def _wait_for_fin(channel: Channel) -> None:
    """The daemon answers FIN with FIN, then resets the stream; an earlier end is a failed export."""
    while packets := await channel.recv_many():
        for packet in packets:
            if packet.type == FIN:
                return
            if packet.type == ERR:
                raise peer_error(packet)
    raise TransferError("the daemon ended the transfer before it confirmed the end")


class _Receiver:
    """The state of one transfer; fed packets in a thread, asked for requests on the loop, never at the same time."""

    def __init__(self, writer: DirectoryWriter) -> None:
        self._writer = writer
        self._check = ListingCheck()
        self._listed = 0
        self._listing_ended = False
        self._wanted: deque[tuple[int, Stat]] = deque()
        self._outstanding: dict[int, Stat] = {}

    @property
    def complete(self) -> bool:
        """Whether the listing has ended and all content has arrived."""
        return self._listing_ended and not self._wanted and not self._outstanding

    def requests(self) -> list[int]:
        """The numbers of the entries to ask for now."""
        numbers = []
        while self._wanted and len(self._outstanding) < OUTSTANDING:
            entry_id, entry = self._wanted.popleft()
            self._outstanding[entry_id] = entry
            numbers.append(entry_id)
        return numbers

    def take(self, packets: list[Packet]) -> None:
        """Apply packets in order."""
        for packet in packets:
            if packet.type == DATA:
                self._take_data(packet)
            elif packet.type == STAT:
                self._take_stat(packet.stat)
            elif packet.type == ERR:
                raise peer_error(packet)
            else:
                raise RemoteProtocolError(f"a sender of files sent a packet of type {int(packet.type)} out of turn")

    def _take_stat(self, entry: Stat | None) -> None:
        if self._listing_ended:
            raise RemoteProtocolError("the listing goes on after its end")
        if entry is None:
            self._listing_ended = True
            return
        self._check.check(entry.path, entry.mode, entry.linkname)
        try:
            to_posix(entry.mode)
        except ValueError as error:
            raise RemoteProtocolError(f"{shown(entry.path)}: {error}") from error
        if is_plain_file(entry.mode) and not entry.linkname:
            self._wanted.append((self._listed, entry))
        else:
            self._writer.add(entry)
        self._listed += 1

    def _take_data(self, packet: Packet) -> None:
        entry = self._outstanding.get(packet.id)
        if entry is None:
            raise RemoteProtocolError(f"content arrived for entry {packet.id}, which was not asked for")
        if packet.data:
            self._writer.write(entry, packet.data)
        else:
            self._writer.complete(entry)
            del self._outstanding[packet.id]
