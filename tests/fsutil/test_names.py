"""The names of a listing are found, and no others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.fsutil.names import ListedNames

_NAMES = st.binary(min_size=1, max_size=3).map(lambda name: name.replace(b"/", b"-"))
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map(b"/".join)
_QUESTIONS = st.one_of(_PATHS, st.binary(max_size=8), st.sampled_from([b"", b"/", b"a/", b"/a", b"//"]))


def listed(paths: set[bytes]) -> ListedNames:
    names = ListedNames()
    for path in sorted(paths, key=lambda path: path.split(b"/")):
        start = path.rfind(b"/") + 1
        names.add(path[:start], path[start:])
    return names


@given(st.sets(_PATHS, max_size=40), st.lists(_QUESTIONS, max_size=20))
def test_it_is_a_set(paths: set[bytes], questions: list[bytes]) -> None:
    names = listed(paths)
    for path in [*paths, *questions]:
        assert (path in names) == (path in paths)


def test_each_of_many_names_is_found() -> None:
    paths = {b"d/%x" % number for number in range(10_000)}
    names = listed(paths)
    assert all(path in names for path in paths)
    assert not any(path + b"g" in names for path in paths)
