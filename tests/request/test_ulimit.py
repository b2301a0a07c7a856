"""Limits of RUN steps."""

from __future__ import annotations

import pytest

from buildkit_session.engine.build_params import Ulimit
from buildkit_session.errors import InputError
from buildkit_session.request.ulimit import read_ulimits


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["nproc=5", "nofile=1:2"], "nofile=1:2,nproc=5:5"),
        (["nofile=1", "nofile=+2"], "nofile=2:2"),
        (["core=-1:-1", "cpu=5:-1"], "core=-1:-1,cpu=5:-1"),
        ({"nofile": (1, 2), "nproc": 3, "core": "4:5"}, "core=4:5,nofile=1:2,nproc=3:3"),
        ([Ulimit("nofile", 1, 2)], "nofile=1:2"),
        ("nofile=1", "nofile=1:1"),
        (None, ""),
    ],
)
def test_limits(given: object, told: str) -> None:
    assert ",".join(f"{limit.name}={limit.soft}:{limit.hard}" for limit in read_ulimits(given)) == told


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nofile", "invalid ulimit argument: nofile"),
        ("files=1", "invalid ulimit type: files"),
        ("nofile=1:2:3", "too many limit value arguments"),
        ("nofile=x", "invalid limit 'x' for ulimit nofile"),
        ("nofile=1_0", "invalid limit"),
        ("nofile=", "invalid limit ''"),
        ("nofile=9223372036854775808", "invalid limit"),
        ("nofile=3:2", "less than or equal to hard limit: 3 > 2"),
        ("nofile=-1:2", r"less than or equal to hard limit: -1 \(unlimited\) > 2"),
        ({"nofile": True}, "invalid limit True"),
        ([Ulimit("nofile", 3, 2)], "less than or equal"),
        (3, "ulimits must be a list"),
        ([3], "a ulimit must be a text"),
    ],
)
def test_limits_that_cannot_be(given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_ulimits(given)
