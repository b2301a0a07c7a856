"""The grammar of ``grpc-timeout``."""

from __future__ import annotations

import pytest

from buildkit_session.errors import RpcError
from buildkit_session.grpc.deadline import parse_timeout
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
