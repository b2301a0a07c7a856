"""What waits in a backlog comes out as it went in."""

from __future__ import annotations

import tracemalloc
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.fsutil.backlog import BLOCK, Backlog, Row

_STEPS = st.lists(st.tuples(st.sampled_from(["append", "popleft", "pop"]), st.integers(1, 3 * BLOCK)), max_size=12)


def row(number: int) -> Row:
    xattrs = {"user.a": bytes([number % 251])} if number % 7 == 0 else {}
    return Row(number, b"usr/share/doc/\xff%d" % number, 0o644, number * 2**40, -number, xattrs)


@given(_STEPS)
def test_it_is_a_deque(steps: list[tuple[str, int]]) -> None:
    """Whatever is taken from which end, while rows are packed and unpacked between them."""
    backlog, model = Backlog(), deque[Row]()
    for action, count in steps:
        for _ in range(count):
            if action == "append":
                backlog.append(row(len(model)))
                model.append(row(len(model)))
            elif model:
                assert getattr(backlog, action)() == getattr(model, action)()
        assert bool(backlog) == bool(model)
    while model:
        assert backlog.popleft() == model.popleft()
    assert not backlog


def test_a_row_that_waits_takes_little_memory() -> None:
    """A listing of a million files must not take hundreds of megabytes."""
    count = 100_000
    backlog = Backlog()
    tracemalloc.start()
    try:
        for number in range(count):
            backlog.append(row(number))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / count < 40
