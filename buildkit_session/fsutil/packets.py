"""The packets of DiffCopy and the channel they travel on.

Source: tonistiigi/fsutil:types/wire.proto, send.go, receive.go.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from buildkit_session.errors import SessionError, TransferError
from buildkit_session.fsutil.validate import shown
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType, Stat

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Channel",
    "PeerGaveUp",
    "data_packet",
    "end_of_data",
    "err_packet",
    "fin_packet",
    "give_up",
    "peer_error",
    "req_packet",
    "stat_packet",
]

STAT: Final = PacketPacketType.PACKET_STAT
REQ: Final = PacketPacketType.PACKET_REQ
DATA: Final = PacketPacketType.PACKET_DATA
FIN: Final = PacketPacketType.PACKET_FIN
ERR: Final = PacketPacketType.PACKET_ERR

ERROR_TEXT_KEPT: Final = 4096
"""Bytes of an ERR packet's text that are sent."""

ERROR_PATIENCE: Final = 5.0
"""Seconds for a last word to a peer that may have stopped reading."""


class Channel(Protocol):
    """What carries packets: a gRPC call, or anything else with these methods."""

    async def recv_many(self) -> list[Packet]:
        """Return the packets that have arrived, at least one; ``[]`` when no more will come."""
        ...

    async def send(self, packet: Packet, /) -> None:
        """Send one packet; waits while the other side is slower."""
        ...

    async def send_many(self, packets: Sequence[Packet], /) -> None:
        """Send packets together; waits while the other side is slower."""
        ...


# A transfer makes millions of these; arguments by keyword would cost twice as much. They are: type, stat, id, data.


def stat_packet(stat: Stat | None) -> Packet:
    """An entry; without ``stat`` it is the end of the listing, which must be sent exactly once."""
    return Packet(STAT, stat, 0, b"")


def req_packet(entry_id: int) -> Packet:
    """Ask for the contents of an entry."""
    return Packet(REQ, None, entry_id, b"")


def data_packet(entry_id: int, data: bytes) -> Packet:
    """A piece of an entry's contents, not empty."""
    return Packet(DATA, None, entry_id, data)


def end_of_data(entry_id: int) -> Packet:
    """The end of an entry's contents."""
    return Packet(DATA, None, entry_id, b"")


def fin_packet() -> Packet:
    """Nothing more is wanted; the sender answers with the same."""
    return Packet(type=FIN)


def err_packet(text: str) -> Packet:
    """Give up, and say why."""
    return Packet(type=ERR, data=text.encode("utf-8", "replace")[:ERROR_TEXT_KEPT])


class PeerGaveUp(TransferError):
    """The other side ended the transfer; what it says is rarely the first cause."""


def peer_error(packet: Packet) -> PeerGaveUp:
    """The error an ERR packet stands for; its text is the peer's, so control characters are shown escaped."""
    return PeerGaveUp(f"the daemon gave up the transfer: {shown(packet.data)}")


async def give_up(channel: Channel, error: SessionError) -> None:
    """Tell the other side why the transfer ends, if it still listens and has not given up itself.

    Raises nothing but cancellation: what ended the transfer must not be hidden by what ends the channel.
    """
    if isinstance(error, PeerGaveUp):
        return
    with anyio.move_on_after(ERROR_PATIENCE), suppress(SessionError):
        await channel.send(err_packet(str(error)))
