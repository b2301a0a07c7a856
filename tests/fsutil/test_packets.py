"""Packets on the wire, and the last word of a transfer."""

from __future__ import annotations

import anyio
import pytest
from tricky_cases import tricky
from wires import joined

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.packets import (
    ERR,
    data_packet,
    end_of_data,
    err_packet,
    fin_packet,
    give_up,
    peer_error,
    req_packet,
    stat_packet,
)
from buildkit_session.messages.fsutil.types import Packet, Stat


@tricky(11, 12)
@pytest.mark.parametrize(
    ("packet", "wire"),
    [
        (stat_packet(None), ""),
        (stat_packet(Stat(path=b"a\xff", mode=0o644)), "12 07 0a 02 61 ff 10 a4 03"),
        (req_packet(0), "08 01"),
        (req_packet(300), "08 01 18 ac 02"),
        (data_packet(3, b"xy"), "08 02 18 03 22 02 78 79"),
        (end_of_data(0), "08 02"),
        (end_of_data(1), "08 02 18 01"),
        (fin_packet(), "08 03"),
        (err_packet("no"), "08 04 22 02 6e 6f"),
    ],
)
def test_packets_on_the_wire(packet: Packet, wire: str) -> None:
    """As daemons send and take them: defaults are absent, so the end of a listing has no bytes at all."""
    assert bytes(packet) == bytes.fromhex(wire)


def test_error_texts_are_bounded_in_both_directions() -> None:
    assert len(err_packet("\u00e9" * 100_000).data) == 4096
    assert len(str(peer_error(Packet(type=ERR, data=b"x" * 100_000)))) < 4200


def test_an_undecodable_error_text_is_escaped() -> None:
    assert str(peer_error(Packet(type=ERR, data=b"\xff\x07"))).endswith("\\xff\\x07")


@pytest.mark.parametrize("text", ["plain", "caf\u00e9", "lone \udcff surrogate"])
def test_giving_up_says_why(text: str) -> None:
    async def main() -> list[Packet]:
        ours, theirs = joined()
        await give_up(ours, TransferError(text))
        return await theirs.recv_many()

    (packet,) = anyio.run(main)
    assert packet.type == ERR
    assert packet.data.decode() == text.replace("\udcff", "?")


def test_giving_up_never_raises() -> None:
    """The channel may be the first thing that broke."""

    async def main() -> None:
        ours, theirs = joined()
        theirs.reset()
        await give_up(ours, TransferError("x"))

    anyio.run(main)


def test_who_has_given_up_is_not_told_again() -> None:
    async def main() -> int:
        ours, _ = joined()
        await give_up(ours, peer_error(Packet(type=ERR, data=b"no")))
        return len(ours.sent)

    assert anyio.run(main) == 0
