"""Which requests are well-formed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scripted_peer import request
from tricky_cases import tricky

from buildkit_session.http2.fields import request_fault

if TYPE_CHECKING:
    from buildkit_session.http2.events import Headers

GOOD = request()


def test_regular_request() -> None:
    assert request_fault(GOOD) is None


@tricky(9)
@pytest.mark.parametrize("value", [b" outer ", b"", b"\xff\xfe", "ü".encode(), b"a,b; c\tq"])
def test_values_of_metadata(value: bytes) -> None:
    """Outer spaces, nothing at all and bytes above ASCII are what BuildKit really sends."""
    assert request_fault([*GOOD, (b"include-patterns", value)]) is None


def test_empty_authority() -> None:
    assert request_fault([field if field[0] != b":authority" else (b":authority", b"") for field in GOOD]) is None


@pytest.mark.parametrize(
    "headers",
    [
        GOOD[1:],  # no :method
        [field for field in GOOD if field[0] != b":path"],
        [field if field[0] != b":path" else (b":path", b"") for field in GOOD],
        [(b":path", b"/again"), *GOOD],
        [*GOOD, (b":scheme", b"http")],  # behind a regular field
        [(b":status", b"200"), *GOOD],
        [field if field[0] != b":path" else (b":path", b"/a b") for field in GOOD],
        [*GOOD, (b"Upper", b"case")],
        [*GOOD, (b"", b"nameless")],
        [*GOOD, (b"sp ace", b"x")],
        [*GOOD, (b"x", b"a\r\nb: c")],
        [*GOOD, (b"x", b"a\0")],
        [*GOOD, (b"connection", b"close")],
        [*GOOD, (b"transfer-encoding", b"chunked")],
        [*GOOD, (b"te", b"gzip")],
        [*GOOD, (b"host", b"elsewhere")],
    ],
)
def test_malformed(headers: Headers) -> None:
    """HF-14: each of them has a fault that can be named."""
    assert request_fault(headers)
