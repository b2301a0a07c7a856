"""Pieces of content reach a file whole and in order, however the system takes them."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from buildkit_session.fsutil.content import MAX_PIECES, Piece, write_all

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("count", [0, 1, 2, MAX_PIECES, MAX_PIECES + 1, 3 * MAX_PIECES])
def test_any_number_of_pieces(tmp_path: Path, count: int) -> None:
    """More than the system takes at once, too; and in both forms that content has."""
    pieces: list[Piece] = [memoryview(b"<%d>" % number) if number % 3 else b"" for number in range(count)]
    with open(tmp_path / "f", "wb", buffering=0) as file:
        write_all(file.fileno(), pieces)
    assert (tmp_path / "f").read_bytes() == b"".join(pieces)


def test_what_is_taken_in_parts() -> None:
    """A pipe takes what it has room for; the rest follows."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, True)
    pieces = [bytes([number]) * 10_007 for number in range(100)]
    got = bytearray()

    def read() -> None:
        while data := os.read(read_end, 4999):
            got.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        write_all(write_end, pieces)
    finally:
        os.close(write_end)
        reader.join(60)
        os.close(read_end)
    assert got == b"".join(pieces)


@pytest.mark.parametrize("taken", [0, 1, 9, 10, 11, 29])
def test_a_call_that_takes_less_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    """As after a signal; the real file gets no byte twice and misses none."""
    real = os.writev

    def writev(descriptor: int, pieces: list[bytes]) -> int:
        return os.write(descriptor, b"".join(pieces)[:taken]) if taken else real(descriptor, [b""])

    monkeypatch.setattr(os, "writev", writev)
    with open(tmp_path / "f", "wb", buffering=0) as file:
        write_all(file.fileno(), [b"0123456789", b"abcdefghij", b"ABCDEFGHIJ"])
    assert (tmp_path / "f").read_bytes() == b"0123456789abcdefghijABCDEFGHIJ"
