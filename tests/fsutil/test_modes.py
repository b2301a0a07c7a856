"""Go's file modes and POSIX ones."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tricky_cases import tricky

from buildkit_session.fsutil.modes import GoMode, from_posix, is_plain_file, to_posix

KINDS = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: 0x80000000,
    stat.S_IFLNK: 0x08000000,
    stat.S_IFBLK: 0x04000000,
    stat.S_IFCHR: 0x04200000,
    stat.S_IFIFO: 0x02000000,
    stat.S_IFSOCK: 0x01000000,
}
BITS = {0o4000: 0x00800000, 0o2000: 0x00400000, 0o1000: 0x00100000}


@tricky(15)
@pytest.mark.parametrize(("posix", "go"), KINDS.items())
def test_kind(posix: int, go: int) -> None:
    assert from_posix(posix | 0o640) == go | 0o640
    assert to_posix(go | 0o640) == posix | 0o640


@tricky(15)
@pytest.mark.parametrize(("posix", "go"), BITS.items())
def test_special_bit(posix: int, go: int) -> None:
    assert from_posix(stat.S_IFREG | posix) == go
    assert to_posix(go) == stat.S_IFREG | posix


@given(st.sampled_from(list(KINDS)), st.integers(0, 0o7777))
def test_there_and_back(kind: int, bits: int) -> None:
    assert to_posix(from_posix(kind | bits)) == kind | bits


def test_foreign_kind_is_irregular() -> None:
    """A whiteout or door, which POSIX does not have, is neither lost nor taken for a file."""
    assert from_posix(0o160644) == 0x00080000 | 0o644


@pytest.mark.parametrize("mode", [GoMode.IRREGULAR, GoMode.DIR | GoMode.SYMLINK, GoMode.CHAR_DEVICE])
def test_impossible_kind_is_refused(mode: int) -> None:
    with pytest.raises(ValueError, match="names no kind of file"):
        to_posix(mode)


def test_type_mask() -> None:
    assert int(GoMode.TYPE) == 0x8F280000


def test_only_files_are_plain() -> None:
    assert is_plain_file(from_posix(stat.S_IFREG | 0o7777))
    assert not any(is_plain_file(from_posix(kind)) for kind in KINDS if kind != stat.S_IFREG)
