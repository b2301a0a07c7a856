"""The grammar of ``grpc-timeout``."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.errors import RpcError
from buildkit_session.grpc.deadline import format_timeout, parse_timeout
from buildkit_session.grpc.status import Status


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0S", 0),
        (b"5S", 5),
        (b"2M", 120),
        (b"1H", 3600),
        (b"250m", 0.25),
        (b"29999954u", 29.999954),
        (b"1n", 1e-9),
        (b"99999999H", 99999999 * 3600),
        (b"00000001S", 1),
    ],
)
def test_valid(value: bytes, seconds: float) -> None:
    """GR-04."""
    assert parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", [b"5", b"S", b"-1S", b"+1S", b"1.5S", b"1s", b"1SS", b"100000000S", b" 1S", b"1S\n", "٣S".encode()]
)
def test_invalid(value: bytes) -> None:
    """GR-04: anything else is INTERNAL."""
    with pytest.raises(RpcError) as caught:
        parse_timeout(value)

    assert caught.value.code == Status.INTERNAL


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (0, b"0n"),
        (-1, b"0n"),
        (1e-9, b"1n"),
        (0.05, b"50000000n"),
        (0.25, b"250000u"),
        (30, b"30000000u"),
        (120, b"120000m"),
        (1e6, b"1000000S"),
        (3.6e11, b"99999999H"),
        (math.inf, b"99999999H"),
    ],
)
def test_format(seconds: float, value: bytes) -> None:
    """GR-04: eight digits and a unit, whatever was asked for."""
    assert format_timeout(seconds) == value


@given(st.floats(0, 3e11))
def test_the_other_side_is_given_no_less(seconds: float) -> None:
    """Nor noticeably more: the answer to what has expired here is not waited for."""
    parsed = parse_timeout(format_timeout(seconds))

    assert seconds <= parsed * (1 + 1e-12)
    assert parsed <= seconds * (1 + 2e-5) + 1e-9
