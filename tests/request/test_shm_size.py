"""The size of ``/dev/shm``."""

from __future__ import annotations

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request.shm_size import read_shm_size


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("64m", 64 << 20),
        ("1G", 1 << 30),
        ("1.5kB", 1536),
        ("2 KiB", 2048),
        ("100b", 100),
        ("100", 100),
        (".5k", 512),
        ("1.m", 1 << 20),
        ("1.7", 1),
        (4096, 4096),
        ("", 0),
        (None, 0),
    ],
)
def test_sizes_of_memory(given: str | int | None, size: int) -> None:
    assert read_shm_size(given) == size


@pytest.mark.parametrize("given", ["x", "-1", "1x", "1mm", "1kbb", "m", "1  m", "9999999p", -1, True, 1 << 63])
def test_sizes_that_cannot_be(given: str | int) -> None:
    with pytest.raises(InputError, match="for shm-size"):
        read_shm_size(given)
