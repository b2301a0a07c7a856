"""Quotas of an export into a directory: DR-23."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import anyio
import pytest
from wires import (
    Daemon,
    Entry,
    directory,
    file,
    hard_link,
    joined,
    open_descriptors,
    receive,
    receive_entries,
    symlink,
    temporary_names,
    together,
    tree,
)

from buildkit_session.errors import InputError, QuotaExceeded, TransferError
from buildkit_session.fsutil.options import ReceiveOptions
from buildkit_session.fsutil.packets import ERR, REQ
from buildkit_session.fsutil.quota import Limits, Quota
from buildkit_session.fsutil.receiver import receive_listing
from buildkit_session.messages.fsutil.types import Stat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENTRIES = [
    directory(b"d"),
    file(b"d/a", b"12345"),
    hard_link(b"d/b", b"d/a"),
    symlink(b"d/c", b"a"),
    file(b"e", b""),
    file(b"f", b"12345"),
]


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    path = tmp_path / "dest"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path: Path) -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before
    assert temporary_names(tmp_path) == []


def limited(*, max_bytes: int | None = None, max_entries: int | None = None) -> ReceiveOptions:
    return ReceiveOptions(limits=Limits(max_bytes, max_entries))


async def list_only(daemon: Daemon, *entries: Entry) -> None:
    """Declare, and wait for the receiver to ask or to give up."""
    await daemon.stat(*(entry.stat for entry in entries))
    await daemon.end_of_list()
    assert (await daemon.next()).type == ERR


def test_what_is_allowed_is_taken(dest: Path) -> None:
    """To the byte and to the entry; names and links of a file are entries, and have no content of their own."""
    received = receive_entries(dest, *ENTRIES, options=limited(max_bytes=10, max_entries=6))
    assert received.error is None
    assert set(tree(dest)) == {entry.stat.path for entry in ENTRIES}


@pytest.mark.parametrize(
    ("options", "option", "limit", "path"),
    [
        (limited(max_bytes=9), "max_bytes", 9, b"f"),
        (limited(max_bytes=1), "max_bytes", 1, b"d/a"),
        (limited(max_entries=5), "max_entries", 5, b"f"),
        (limited(max_entries=1, max_bytes=1), "max_entries", 1, b"d/a"),
    ],
)
def test_more_ends_the_transfer_before_anything_is_asked_for(
    dest: Path, options: ReceiveOptions, option: str, limit: int, path: bytes
) -> None:
    """The error says which limit and how to raise it, to both sides."""
    received = receive(dest, lambda daemon: list_only(daemon, *ENTRIES), options)
    error = received.error
    assert isinstance(error, QuotaExceeded)
    assert (error.option, error.limit, error.path) == (option, limit, path)
    assert f"more than {limit} " in str(error)
    assert f"raise {option} (max-{'size' if option == 'max_bytes' else 'entries'}" in str(error)
    assert received.told() == str(error)
    assert received.asked() == []


def test_content_counts_as_declared_and_cannot_exceed_that(dest: Path) -> None:
    """Who declares one byte and sends many is stopped by the size; the quota cannot be had by lying."""

    async def script(daemon: Daemon) -> None:
        await daemon.stat(Stat(path=b"liar", mode=0o644, size=1))
        await daemon.end_of_list()
        assert (await daemon.next()).type == REQ
        await daemon.piece(0, b"x" * 1000)
        assert (await daemon.next()).type == ERR

    received = receive(dest, script, limited(max_bytes=10))
    assert isinstance(received.error, TransferError)
    assert "listed with 1 bytes, 1000 arrived" in str(received.error)
    assert tree(dest) == {}


@pytest.mark.parametrize("size", [-1, -(2**63)])
def test_a_negative_size_makes_no_room(dest: Path, size: int) -> None:
    below_zero = Entry(Stat(path=b"a", mode=0o644, size=size))
    received = receive(dest, lambda daemon: list_only(daemon, below_zero, file(b"b", b"12345")), limited(max_bytes=4))
    assert isinstance(received.error, QuotaExceeded)


def test_what_is_left_out_does_not_count(dest: Path) -> None:
    options = ReceiveOptions(exclude=("d/**", "f"), limits=Limits(1, 2))
    received = receive_entries(dest, *ENTRIES, options=options)
    assert received.error is None
    assert set(tree(dest)) == {b"d", b"e"}


def test_what_need_not_be_written_has_no_bytes(dest: Path) -> None:
    """An incremental export is held to what it writes."""
    assert receive_entries(dest, *ENTRIES).error is None
    options = ReceiveOptions(incremental=True, limits=Limits(max_bytes=5))
    received = receive_entries(dest, *ENTRIES, file(b"new", b"12345"), options=options)
    assert received.error is None
    assert (dest / "new").read_bytes() == b"12345"


def test_entries_of_a_listing_are_limited() -> None:
    async def main() -> None:
        ours, theirs = joined()
        options = limited(max_entries=5, max_bytes=1)
        with pytest.raises(QuotaExceeded, match="more than 5 entries"):
            await together(ours, receive_listing(ours, options), list_only(Daemon(theirs), *ENTRIES))

    anyio.run(main)


def test_streams_share_a_quota() -> None:
    """From several threads at once nothing is lost."""
    quota = Quota(Limits(max_bytes=30_000, max_entries=30_000))

    def take() -> None:
        for number in range(10_000):
            entry = Stat(path=b"%d" % number, size=1)
            quota.take_entry(entry)
            quota.take_content(entry)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(QuotaExceeded):
        quota.take_entry(Stat(path=b"x"))
    with pytest.raises(QuotaExceeded):
        quota.take_bytes(1)


@pytest.mark.parametrize("number", [0, -1])
def test_a_limit_is_positive(number: int) -> None:
    """Nought would be no limit to some and nothing at all to others."""
    with pytest.raises(
        InputError, match=r"max-size \(max_bytes\) .* is not a positive number; leave it out for no limit"
    ):
        Limits(max_bytes=number)
    with pytest.raises(InputError, match=r"max-entries .* is not a positive number"):
        Limits(max_entries=number)


def test_complete_files_stay_in_a_merged_directory(dest: Path) -> None:
    """What a failed export leaves is what any failed export leaves."""

    async def script(daemon: Daemon) -> None:
        await daemon.stat(file(b"a", b"12345").stat)
        assert (await daemon.next()).type == REQ
        await daemon.data(0, b"12345")
        await daemon.stat(file(b"b", b"12345").stat)
        assert (await daemon.next()).type == ERR

    received = receive(dest, script, limited(max_bytes=9))
    assert isinstance(received.error, QuotaExceeded)
    assert os.listdir(dest) == ["a"]
    assert (dest / "a").read_bytes() == b"12345"
