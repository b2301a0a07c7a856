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
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

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
    from collections.abc import Callable, Generator, Iterator

    from buildkit_session.fsutil.packets import Channel
    from buildkit_session.messages.fsutil.types import Packet, Stat

__all__ = ["send_tree"]

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

LIST_BATCH: Final = 256
"""Entries listed in one visit of a thread."""

CHUNK: Final = 1024 * 1024
"""Bytes of content in a packet at most. Daemons before BuildKit 0.13 refuse messages above 4 MiB.

Not less, as the C library keeps memory of pieces this large for the next ones, while a few pieces of 128 KiB at a time
go back to the system and are paid for again with a page fault each 4 KiB: three times the cost of reading.
"""

READ_BATCH: Final = 2 * CHUNK
"""Bytes of content read in one visit of a thread."""

FILE_COST: Final = 16 * 1024
"""What a file counts in a batch beside its content, so that many tiny files do not make a long visit."""


async def send_tree(
    channel: Channel, root_fd: int, filtered: Filter, on_entry: Callable[[Stat], object] = lambda _: None
) -> None:
    """Send what ``filtered`` keeps of the tree below ``root_fd``, until the receiver has all it wants.

    Args:
        channel: connects to the receiver.
        root_fd: an open directory. Nothing outside of it is read.
        filtered: which entries are listed; only they can be requested.
        on_entry: called for each entry, in a thread, before it is sent.

    Raises:
        TransferError: something could not be listed or read, or the receiver gave up.
        RemoteProtocolError: the receiver asked for what it was not offered.
        InputError: a pattern of the filter is malformed. The receiver is told of this and of the errors above.
        StreamReset: the receiver went away.
    """
    sender = _Sender(channel, root_fd, filtered, on_entry)
    try:
        await sender.run()
    except BaseExceptionGroup as group:
        error = first_cause(group)
        if isinstance(error, TransferError | RemoteProtocolError | InputError):
            await give_up(channel, error)
        raise error from error.__cause__


class _Sender:
    def __init__(self, channel: Channel, root_fd: int, filtered: Filter, on_entry: Callable[[Stat], object]) -> None:
        self._channel = channel
        self._on_entry = on_entry
        self._root_fd = root_fd
        self._filter = filtered
        # The path of each entry by its number; None where there is nothing (more) to request.
        self._requestable: list[bytes | None] = []
        # Requests not yet read; filled on the loop, emptied in a thread, one end each.
        self._requests: deque[tuple[int, bytes]] = deque()
        self._requested = anyio.Event()
        self._thread = anyio.CapacityLimiter(1)
        self._opener = FileOpener(root_fd)
        self._file: Generator[Packet, None, None] | None = None  # what is left of the file being read

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
            while batch := await self._visit(self._take_batch, entries):
                self._requestable += [
                    stat.path if is_plain_file(stat.mode) and not stat.linkname else None for stat in batch
                ]
                await self._channel.send_many([stat_packet(stat) for stat in batch])
        await self._channel.send(stat_packet(None))

    async def _visit(self, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Do some work in a thread; listing and reading take turns.

        Two threads would not be faster than one, as most of the work needs the interpreter, but the event loop would
        have to wait for both of them.
        """
        return await to_thread.run_sync(work, *arguments, limiter=self._thread)

    def _take_batch(self, entries: Iterator[Stat]) -> list[Stat]:
        batch = list(islice(entries, LIST_BATCH))
        for stat in batch:
            self._on_entry(stat)
        return batch

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
            if self._file is None and not self._requests:
                self._requested = anyio.Event()
                await self._requested.wait()
            await self._channel.send_many(await self._visit(self._read_batch))

    def _read_batch(self) -> list[Packet]:
        """Read requested content, in a thread; the last file may have to be continued."""
        batch: list[Packet] = []
        budget = READ_BATCH
        while self._file is not None or self._requests:
            self._file = self._file or self._read(*self._requests.popleft())
            for packet in self._file:
                batch.append(packet)
                budget -= len(packet.data) or FILE_COST
                if budget <= 0:
                    return batch
            self._file = None
        return batch

    def _read(self, number: int, path: bytes) -> Generator[Packet, None, None]:
        """Read one file to its end."""
        descriptor, size = self._opener.open_listed(path)
        try:
            left = size
            while True:
                # One byte more than expected shows the end, or that the file grew, without another read. A piece is
                # never larger than it has to be, as memory costs more than reading.
                wanted = left + 1 if 0 <= left < CHUNK else CHUNK
                data = _read_chunk(descriptor, path, wanted)
                if data:
                    yield data_packet(number, data)
                left -= len(data)
                if not data or (left == 0 and len(data) < wanted):
                    break
            yield end_of_data(number)
        finally:
            os.close(descriptor)

    def _close(self) -> None:
        self._opener.close()
        if self._file is not None:
            self._file.close()


def _read_chunk(descriptor: int, path: bytes, size: int) -> bytes:
    try:
        return os.read(descriptor, size)
    except OSError as error:
        raise TransferError(f"cannot read {shown(path)}: {error.strerror}", path=path) from error
