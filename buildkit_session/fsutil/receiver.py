"""DiffCopy, the receiving side: takes a listing, asks for the content of every file and writes it all to a disk.

At most ``OUTSTANDING`` requests are open at a time. The daemon's sender has four readers and a queue of 128 requests,
and stops taking requests when that is full; a receiver that sends thousands at once can then block it for good, as
both sides wait for each other. Below the queue's length the daemon always takes requests, so ours can never be stuck,
and one task may both read and ask. As many as that, because each round of requests costs the same, few or many.

Content that was asked for and does not come ends the transfer after a time, see
:mod:`buildkit_session.fsutil.stall`.

Source: tonistiigi/fsutil:receive.go, send.go (queue lengths); moby/buildkit issue 2950 (the deadlock).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from anyio import CancelScope, to_thread

from buildkit_session.errors import InputError, RemoteProtocolError, TransferError
from buildkit_session.fsutil.backlog import Backlog, Row
from buildkit_session.fsutil.choice import Choice
from buildkit_session.fsutil.disk import DirectoryWriter, Written
from buildkit_session.fsutil.listing import ListedEntry, Listing
from buildkit_session.fsutil.modes import is_plain_file, to_posix
from buildkit_session.fsutil.options import DEFAULT
from buildkit_session.fsutil.pace import let_gather
from buildkit_session.fsutil.packets import DATA, ERR, FIN, STAT, fin_packet, give_up, peer_error, req_packet
from buildkit_session.fsutil.quota import Quota
from buildkit_session.fsutil.stall import StallWatch, run_watched
from buildkit_session.fsutil.validate import ListingCheck, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_session.fsutil.backlog import FileEntry
    from buildkit_session.fsutil.content import Piece
    from buildkit_session.fsutil.options import ReceiveOptions
    from buildkit_session.fsutil.packets import Channel
    from buildkit_session.messages.fsutil.types import Packet, Stat

__all__ = ["Sink", "receive_listing", "receive_tree"]

OUTSTANDING: Final = 120
"""Requests under way; a little less than the daemon's queue holds."""

MANY: Final = 2 * OUTSTANDING
"""Packets in a batch that are worth a change of threads: small files, as many as there can be."""

NAMED: Final = 3
"""Files that the error of a stalled transfer names."""


class Sink(Protocol):
    """Where entries go. Called in a thread; every method but ``close`` may raise TransferError."""

    def wants(self, entry: Stat) -> bool:
        """Take a plain file, and tell whether its content shall be asked for."""
        ...

    def add(self, entry: Stat) -> None:
        """Take an entry without content."""
        ...

    def write(self, entry: FileEntry, /, *pieces: Piece) -> None:
        """Take the next pieces of a file, which are good during the call only."""
        ...

    def complete(self, entry: FileEntry, /, *pieces: Piece) -> None:
        """Take the last pieces of a file, or all of them."""
        ...

    def finish(self) -> None:
        """Take the end of everything."""
        ...

    def close(self) -> None:
        """Give everything back, after ``finish`` or without it."""
        ...


async def receive_tree(
    channel: Channel,
    root_fd: int,
    options: ReceiveOptions = DEFAULT,
    on_entry: Callable[[Stat], object] = lambda _: None,
    quota: Quota | None = None,
) -> Written:
    """Receive a tree into the directory ``root_fd``, merging with what is there.

    When this returns, everything is in place and the sender has confirmed the end. When it raises or is cancelled,
    complete entries stay and incomplete ones are removed; the sender is told of an error.

    Args:
        channel: connects to the sender.
        root_fd: an open directory; stays the caller's.
        options: what is taken, and how.
        on_entry: called for each entry that is taken, in a thread, before it is written.
        quota: what several streams may take together; by default the limits are for this one.

    Raises:
        QuotaExceeded: the listing goes beyond the limits; nothing beyond them was written.
        TransferError: something could not be written, the sender gave up, fell silent or ended early.
        RemoteProtocolError: the listing or the data break the rules; nothing of the offending entry was written.
        InputError: a pattern is malformed.
        StreamReset: the sender went away.
    """
    writer = DirectoryWriter(root_fd, options.policy, incremental=options.incremental)
    await _receive(channel, writer, options, on_entry, quota or Quota(options.limits))
    return writer.written


async def receive_listing(channel: Channel, options: ReceiveOptions = DEFAULT) -> list[ListedEntry]:
    """Receive the entries of a tree and nothing else; raises as :func:`receive_tree`."""
    listing = Listing()
    await _receive(channel, listing, options, lambda _: None, Quota(options.limits))
    return listing.entries


async def _receive(
    channel: Channel, sink: Sink, options: ReceiveOptions, on_entry: Callable[[Stat], object], quota: Quota
) -> None:
    watch = StallWatch()
    try:
        choice = Choice(options.include, options.exclude) if options.include or options.exclude else None
        receiver = _Receiver(sink, choice, on_entry, quota)

        def stalled() -> TransferError | None:
            return receiver.stalled(options.stall_timeout)

        async def exchange() -> None:
            await _take_all(channel, receiver, sink, watch)
            receiver.finished = True
            await channel.send(fin_packet())
            await _wait_for_fin(channel, watch)

        await run_watched(exchange, watch, timeout=options.stall_timeout, stalled=stalled)
    except (TransferError, RemoteProtocolError, InputError) as error:
        await give_up(channel, error)
        raise


async def _take_all(channel: Channel, receiver: _Receiver, sink: Sink, watch: StallWatch) -> None:
    try:
        while not receiver.complete:
            with watch.waiting():
                packets = await channel.recv_many()
            if not packets:
                raise TransferError("the daemon ended the transfer early; the directory is incomplete")
            receiver.look_through(packets)
            await _ask(channel, receiver, watch)  # so that the sender works while these are written
            size = await to_thread.run_sync(receiver.take, packets)
            await _ask(channel, receiver, watch)
            if len(packets) < MANY and not receiver.complete:
                await let_gather(size)
        await to_thread.run_sync(sink.finish)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(sink.close)


async def _ask(channel: Channel, receiver: _Receiver, watch: StallWatch) -> None:
    if numbers := receiver.requests():
        with watch.waiting():
            await channel.send_many([req_packet(number) for number in numbers])


async def _wait_for_fin(channel: Channel, watch: StallWatch) -> None:
    """The daemon answers FIN with FIN, then resets the stream; an earlier end is a failed export."""
    while True:
        with watch.waiting():
            packets = await channel.recv_many()
        if not packets:
            raise TransferError("the daemon ended the transfer before it confirmed the end")
        for packet in packets:
            if packet.type == FIN:
                return
            if packet.type == ERR:
                raise peer_error(packet)


class _Receiver:
    """The state of one transfer; fed packets in a thread, asked for requests on the loop, never at the same time."""

    def __init__(self, sink: Sink, choice: Choice | None, on_entry: Callable[[Stat], object], quota: Quota) -> None:
        self.finished = False  # whether the end was said to the sender
        self._sink = sink
        self._choice = choice
        self._on_entry = on_entry
        self._quota = quota
        self._check = ListingCheck()
        self._listed = 0
        self._listing_ended = False
        self._wanted = Backlog()
        self._outstanding: dict[int, Row] = {}  # asked for, and not complete on the disk
        self._unsent: set[int] = set()  # asked for, and the end of it was not seen yet
        self._last_data: Row | None = None  # the file that content came for last, until it is complete

    @property
    def complete(self) -> bool:
        """Whether the listing has ended and all content has arrived."""
        return self._listing_ended and not self._wanted and not self._outstanding

    def requests(self) -> list[int]:
        """The numbers of the entries to ask for now."""
        numbers = []
        for _ in range(OUTSTANDING - len(self._unsent)):
            if not self._wanted:
                break
            row = self._wanted.popleft()
            self._outstanding[row.number] = row
            numbers.append(row.number)
        self._unsent.update(numbers)
        return numbers

    def look_through(self, packets: list[Packet]) -> None:
        """Note which files have come to their end: others can be asked for before these are written."""
        for packet in packets:
            if packet.type == DATA and not packet.data:
                self._unsent.discard(packet.id)

    def stalled(self, timeout: float | None) -> TransferError | None:
        """The error if the sender does not go on, or ``None`` if it has not been asked for anything."""
        if self.finished:
            return TransferError(f"the daemon has not confirmed the end of the transfer for {timeout} seconds")
        waiting = list(self._outstanding.values())
        if not waiting:
            return None
        # The one that stopped half-way, if there is one, otherwise the one asked for first.
        stuck = self._last_data or waiting[0]
        others = [shown(entry.path) for entry in waiting if entry is not stuck]
        text = f"no content has come for {timeout} seconds; the transfer is stuck at {shown(stuck.path)}"
        if others:
            more = ", ..." if len(others) > NAMED else ""
            text += f", and {len(others)} more were asked for: {', '.join(others[:NAMED])}{more}"
        return TransferError(text, path=stuck.path)

    def take(self, packets: list[Packet]) -> int:
        """Apply packets in order, but for content, which is handed over file by file.

        Returns:
            How many bytes of content there were.
        """
        contents: dict[int, list[Piece]] = {}
        size = 0
        for packet in packets:
            if packet.type == DATA:
                size += len(packet.data)
                self._take_data(packet.id, packet.data, contents)
            elif packet.type == STAT:
                self._take_stat(packet.stat)
            elif packet.type == ERR:
                raise peer_error(packet)
            else:
                raise RemoteProtocolError(f"a sender of files sent a packet of type {int(packet.type)} out of turn")
        for number, pieces in contents.items():
            self._sink.write(self._outstanding[number], *pieces)
        return size

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
        if self._choice is None:
            self._take_chosen(self._listed, entry)
        else:
            for number, chosen in self._choice.take(self._listed, entry):
                self._take_chosen(number, chosen)
        self._listed += 1

    def _take_chosen(self, number: int, entry: Stat) -> None:
        self._quota.take_entry(entry)
        self._on_entry(entry)
        if not is_plain_file(entry.mode) or entry.linkname:
            self._sink.add(entry)
        elif self._sink.wants(entry):
            self._quota.take_content(entry)
            self._wanted.append(Row.of(number, entry))

    def _take_data(self, number: int, data: Piece, contents: dict[int, list[Piece]]) -> None:
        """Add a piece to ``contents``; at the end of the file hand over what is there of it, often all of it."""
        row = self._outstanding.get(number)
        if row is None:
            raise RemoteProtocolError(f"content arrived for entry {number}, which was not asked for")
        if data:
            self._last_data = row
            contents.setdefault(number, []).append(data)
        else:
            self._last_data = None if self._last_data is row else self._last_data
            self._sink.complete(row, *contents.pop(number, ()))
            del self._outstanding[number]
