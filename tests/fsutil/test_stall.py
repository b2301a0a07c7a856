"""A transfer whose other side falls silent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import pytest
from wires import Daemon, file, open_descriptors, receive, temporary_names

from buildkit_session.errors import StreamReset, TransferError
from buildkit_session.fsutil.options import ReceiveOptions
from buildkit_session.fsutil.packets import FIN
from buildkit_session.fsutil.stall import SLICES, StallWatch, run_watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = ReceiveOptions(stall_timeout=0.1)


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path: Path) -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before
    assert temporary_names(tmp_path) == []


def test_the_file_it_is_stuck_at_is_named(tmp_path: Path) -> None:
    """The one whose content stopped half-way, with what else was asked for; both sides are told."""

    async def script(daemon: Daemon) -> None:
        await daemon.stat(*(file(b"f%d" % number).stat for number in range(6)))
        await daemon.end_of_list()
        await daemon.next()
        await daemon.data(0, b"content")
        await daemon.piece(3, b"con")

    received = receive(tmp_path, script, SOON)
    assert isinstance(received.error, TransferError)
    assert received.error.path == b"f3"
    assert "stuck at f3, and 4 more were asked for: f1, f2, f4, ..." in str(received.error)
    assert received.told() == str(received.error)
    assert os.listdir(tmp_path) == ["f0"]


def test_a_file_that_never_begins_is_named(tmp_path: Path) -> None:
    async def script(daemon: Daemon) -> None:
        await daemon.stat(file(b"only").stat)
        await daemon.next()

    received = receive(tmp_path, script, SOON)
    assert isinstance(received.error, TransferError)
    assert str(received.error) == "no content has come for 0.1 seconds; the transfer is stuck at only"


def test_an_end_that_is_never_confirmed(tmp_path: Path) -> None:
    async def script(daemon: Daemon) -> None:
        await daemon.end_of_list()
        await daemon.until(FIN)

    assert "not confirmed the end" in str(receive(tmp_path, script, SOON).error)


def looks(watch: StallWatch, count: int, *, owed: bool = True) -> list[bool]:
    return [watch.look(owed=owed) for _ in range(count)]


def test_silence_must_last() -> None:
    watch = StallWatch()
    with watch.waiting():
        assert looks(watch, SLICES) == [False] * (SLICES - 1) + [True]


def test_any_step_starts_anew() -> None:
    """One message in all that time is enough."""
    watch = StallWatch()
    for _ in range(5):
        with watch.waiting():
            assert not any(looks(watch, SLICES - 1))
    assert not any(looks(watch, SLICES))


def test_own_work_is_no_silence_of_the_other_side() -> None:
    """A slow disk here, for however long."""
    assert not any(looks(StallWatch(), 100))


def test_who_owes_nothing_may_be_silent() -> None:
    """A daemon may take its time to list: it may have layers to fetch first."""
    watch = StallWatch()
    with watch.waiting():
        assert not any(looks(watch, 100, owed=False))


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_results_and_errors_pass(timeout: float | None) -> None:
    """Errors as they are, not in a group."""

    async def main() -> None:
        async def succeed() -> int:
            return 7

        async def fail() -> int:
            raise StreamReset(8, by="peer")

        assert await run_watched(succeed, StallWatch(), timeout=timeout, stalled=lambda: None) == 7
        with pytest.raises(StreamReset):
            await run_watched(fail, StallWatch(), timeout=timeout, stalled=lambda: None)

    anyio.run(main)
