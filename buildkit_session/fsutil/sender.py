"""DiffCopy, the sending side: lists a tree, then sends the contents the receiver asks for.

Three tasks share the channel: one lists, one takes requests, one reads files. Requests are only numbers, each is taken
once at most, so keeping them costs little and the receiver can never be blocked by us. Disk work runs in threads, in
batches, as one hop a file would cost more than reading it.

Source: tonistiigi/fsutil:send.go; the state machine is in transfer order: STAT*, end of list, DATA* as requested, and
after the receiver's FIN ours.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread

from buildkit_session.errors import InputError, RemoteProtocolError, TransferError, first_cause
from buildkit_session.fsutil.modes import is_plain_file
from buildkit_session.fsutil.packets import (
    ERR,
    FIN,
    REQ,
    data_packet,
    end_of_data,
    fin_packet,
    give_up,
    peer_error,
    stat_packet,
)
from buildkit_session.fsutil.validate import shown
from buildkit_session.fsutil.walk import FileOpener, Filter, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.fsutil.packets import Channel
    from buildkit_session.messages.fsutil.types import Packet, Stat

__all__ = ["send_tree"]

LIST_BATCH: Final = 512
"""Entries listed in one visit of a thread."""

CHUNK: Final = 128 * 1024
"""Bytes of content in a packet. Daemons before BuildKit 0.13 refuse messages above 4 MiB."""

READ_BATCH: Final = 512 * 1024
"""Bytes of content read in one visit of a thread."""

FILE_COST: Final = 1024
"""What the end of a file counts in a batch, so that many tiny files do not make a long visit."""


async def send_tree(channel: Channel, root_fd: int, filtered: Filter) -> None:
    """Send what ``filtered`` keeps of the tree below ``root_fd``, until the receiver has all it wants.

    Args:
        channel: connects to the receiver.
        root_fd: an open directory. Nothing outside of it is read.
        filtered: which entries are listed; only they can be requested.

    Raises:
        TransferError: something could not be listed or read, or the receiver gave up.
        RemoteProtocolError: the receiver asked for what it was not offered.
        InputError: a pattern of the filter is malformed. The receiver is told of this and of the errors above.
        StreamReset: the receiver went away.
    """
    sender = _Sender(channel, root_fd, filtered)
    try:
        await sender.run()
    except BaseExceptionGroup as group:
        error = first_cause(group)
        if isinstance(error, TransferError | RemoteProtocolError | InputError):
            await give_up(channel, error)
        raise error from error.__cause__


class _Sender:
    def __init__(self, channel: Channel, root_fd: int, filtered: Filter) -> None:
        self._channel = channel
        self._root_fd = root_fd
        self._filter = filtered
        # The path of each entry by its number; None where there is nothing (more) to request.
        self._requestable: list[bytes | None] = []
        # Requests not yet read; filled on the loop, emptied in a thread, one end each.
        self._requests: deque[tuple[int, bytes]] = deque()
        self._requested = anyio.Event()
        self._opener = FileOpener(root_fd)
        self._current: tuple[int, bytes, int] | None = None  # number, path and descriptor of the file being read

    async def run(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._list)
                tasks.start_soon(self._answer)
                await self._take_requests()
                tasks.cancel_scope.cancel()
        finally:
            self._close()
        await self._channel.send(fin_packet())

    async def _list(self) -> None:
        with closing(walk(self._root_fd, self._filter)) as entries:
            while batch := await to_thread.run_sync(_take_batch, entries):
                for stat in batch:
                    self._requestable.append(stat.path if is_plain_file(stat.mode) and not stat.linkname else None)
                    await self._channel.send(stat_packet(stat))
        await self._channel.send(stat_packet(None))

    async def _take_requests(self) -> None:
        """Take requests until the receiver says FIN."""
        while packets := await self._channel.recv_many():
            for packet in packets:
                if packet.type == FIN:
                    return
                self._take(packet)
            self._requested.set()
        raise TransferError("the daemon ended the transfer early")

    def _take(self, packet: Packet) -> None:
        if packet.type == ERR:
            raise peer_error(packet)
        if packet.type != REQ:
            raise RemoteProtocolError(f"a receiver of files sent a packet of type {int(packet.type)}")
        if packet.id >= len(self._requestable) or (path := self._requestable[packet.id]) is None:
            raise RemoteProtocolError(f"entry {packet.id} was requested, which has no (more) content")
        self._requestable[packet.id] = None
        self._requests.append((packet.id, path))

    async def _answer(self) -> None:
        while True:
            pieces = await to_thread.run_sync(self._read)
            for entry_id, data in pieces:
                await self._channel.send(data_packet(entry_id, data) if data else end_of_data(entry_id))
            if not pieces:
                self._requested = anyio.Event()
                if not self._requests:
                    await self._requested.wait()

    def _read(self) -> list[tuple[int, bytes]]:
        """Read a batch of requested content, in a thread; an empty piece is the end of a file."""
        pieces: list[tuple[int, bytes]] = []
        budget = READ_BATCH
        while budget > 0 and (self._current is not None or self._requests):
            if self._current is None:
                entry_id, path = self._requests.popleft()
                self._current = (entry_id, path, self._opener.open(path))
            entry_id, path, descriptor = self._current
            data = _read_chunk(descriptor, path)
            if not data:
                os.close(descriptor)
                self._current = None
            pieces.append((entry_id, data))
            budget -= len(data) or FILE_COST
        return pieces

    def _close(self) -> None:
        self._opener.close()
        if self._current is not None:
            os.close(self._current[2])


def _take_batch(entries: Iterator[Stat]) -> list[Stat]:
    return list(islice(entries, LIST_BATCH))


def _read_chunk(descriptor: int, path: bytes) -> bytes:
    try:
        return os.read(descriptor, CHUNK)
    except OSError as error:
        raise TransferError(f"cannot read {shown(path)}: {error.strerror}", path=path) from error
