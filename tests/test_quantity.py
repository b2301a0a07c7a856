"""Sizes and counts as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.errors import InputError
from buildkit_session.quantity import read_count, read_size

SIZES = [
    ("0", 0),
    ("1000", 1000),
    ("1000b", 1000),
    ("10GB", 10 * 1000**3),
    ("10 GB", 10 * 1000**3),
    ("10g", 10 * 1000**3),
    ("10GiB", 10 * 1024**3),
    ("64Ki", 64 * 1024),
    ("1.5kB", 1500),
    ("0.5MiB", 512 * 1024),
    ("007TB", 7 * 1000**4),
    ("1PiB", 1024**5),
]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_sizes(text: str, size: int) -> None:
    assert read_size("max-size", text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1", "+1", "1e3", "1.", ".5k", "1 000", "10ib", "1EB", "٣", "1" * 19, "1\n"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(InputError, match="for max-size: expected a size such as 10GB"):
        read_size("max-size", text)


@pytest.mark.parametrize("text", ["1.5", "0.0001kB", "0.1KiB"])
def test_parts_of_bytes(text: str) -> None:
    with pytest.raises(InputError, match="no whole number of bytes"):
        read_size("max-size", text)


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1k", "٣", "1" * 19, "1\n"])
def test_no_counts(text: str) -> None:
    with pytest.raises(InputError, match="for max-entries: expected a number"):
        read_count("max-entries", text)


def test_a_count() -> None:
    assert read_count("max-entries", "0300") == 300


@given(st.text("0123456789.kKmMgGiIbB ", max_size=8))
def test_any_text_is_a_size_or_a_typed_error(text: str) -> None:
    with suppress(InputError):
        assert read_size("max-size", text) >= 0


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("10b", 10), ("1kb", 1024), ("1.5G", 3 << 29), ("2MiB", 2 << 20)])
def test_powers_of_1024(text: str, size: int) -> None:
    assert read_size("max", text, binary=True) == size
