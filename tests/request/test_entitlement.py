"""Privileges."""

from __future__ import annotations

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request.entitlement import read_entitlements


def test_privileges() -> None:
    known = ["network.host", "security.insecure", "device", "device=", "device=a/b", "device=a,alias=b", ""]
    assert read_entitlements(known) == tuple(known[:-1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net.host", "unknown entitlement net.host"),
        ("network.host=", "unknown entitlement network.host="),
        ("device=a,b", "invalid device config 'b'"),
        ("device=a,b=c", "unknown device config key 'b'"),
    ],
)
def test_privileges_that_nobody_knows(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_entitlements([text])
