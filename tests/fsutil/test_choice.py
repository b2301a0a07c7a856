"""Choosing from a listing gives what the sending side would have listed with the same patterns."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_session.fsutil.choice import Choice
from buildkit_session.fsutil.modes import is_plain_file
from buildkit_session.fsutil.walk import Filter, walk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.messages.fsutil.types import Stat

NAMES = st.sampled_from(["a", "b", "c", "a.x"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATTERNS = st.builds(
    lambda mark, path: mark + path,
    st.sampled_from(["", "", "!"]),
    st.lists(st.one_of(NAMES, st.sampled_from(["*", "**", "?", "*.x"])), min_size=1, max_size=3).map("/".join),
)


def make_tree(root: str, files: Iterable[str], links: Iterable[tuple[str, str]]) -> None:
    """Make what can be made: a name cannot be a file and a directory."""
    for path in files:
        try:
            os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
            with open(f"{root}/{path}", "x") as file:
                file.write(path)
        except OSError:
            continue
    for source, path in links:
        try:
            os.link(f"{root}/{source}", f"{root}/{path}")
        except OSError:
            continue


def described(entry: Stat) -> tuple[object, ...]:
    return entry.path, entry.mode, entry.size, entry.linkname, entry.mod_time


@settings(max_examples=300, deadline=None)
@given(
    st.lists(PATHS, max_size=12),
    st.lists(st.tuples(PATHS, PATHS), max_size=6),
    st.lists(PATTERNS, max_size=3),
    st.lists(PATTERNS, max_size=3),
)
def test_as_the_sender_would(
    files: list[str], links: list[tuple[str, str]], include: list[str], exclude: list[str]
) -> None:
    """The same entries in the same order; links lead to the same names; content is that of the same file."""
    with tempfile.TemporaryDirectory() as root:
        make_tree(root, files, links)
        root_fd = os.open(root, os.O_RDONLY)
        try:
            everything = list(walk(root_fd, Filter()))
            expected = list(walk(root_fd, Filter(include=tuple(include), exclude=tuple(exclude))))
            choice = Choice(tuple(include), tuple(exclude))
            chosen = [kept for number, entry in enumerate(everything) for kept in choice.take(number, entry)]
            assert [described(kept.entry) for kept in chosen] == [described(entry) for entry in expected]
            for kept in chosen:
                if is_plain_file(kept.entry.mode) and not kept.entry.linkname:
                    source = os.fsencode(root) + b"/" + everything[kept.number].path
                    assert os.path.samefile(source, os.fsencode(root) + b"/" + kept.entry.path)
                    assert not everything[kept.number].linkname
        finally:
            os.close(root_fd)
