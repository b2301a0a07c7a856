"""Metadata keeps order, repetition and bytes."""

from __future__ import annotations

import pytest
from tricky_cases import tricky

from buildkit_session.errors import RpcError
from buildkit_session.grpc.metadata import Metadata
from buildkit_session.grpc.status import Status


@tricky(10)
def test_order_and_repetition() -> None:
    """Patterns mean what their order says, so values are neither joined nor sorted."""
    metadata = Metadata([(b"p", b"b"), (b"q", b"1"), (b"p", b"a,c"), (b"p", b"b")])

    assert metadata.get_all("p") == ["b", "a,c", "b"]
    assert metadata.get("p") == "b"
    assert list(metadata) == ["p", "q", "p", "p"]


def test_missing() -> None:
    metadata = Metadata()

    assert metadata.get("x") is None
    assert metadata.get("x", "y") == "y"
    assert metadata.get_all("x") == []
    assert metadata.get_binary("x-bin") == []


def test_reserved_fields() -> None:
    """What belongs to HTTP/2 or gRPC is no metadata."""
    metadata = Metadata([(b":path", b"/"), (b"te", b"trailers"), (b"grpc-timeout", b"1S"), (b"x", b"y")])

    assert list(metadata) == ["x"]


def test_any_bytes() -> None:
    """File names need not be UTF-8: the bytes come back."""
    value = Metadata([(b"followpaths", b" \xff/\xc3\xa4 ")]).get("followpaths")

    assert value is not None
    assert value.encode("utf-8", "surrogateescape") == b" \xff/\xc3\xa4 "


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"AAEC"], [b"\0\1\2"]),
        ([b"AA=="], [b"\0"]),
        ([b"AA"], [b"\0"]),  # padding may be missing
        ([b"AA,AQ==", b"Ag"], [b"\0", b"\1", b"\2"]),
        ([b"AA, AQ"], [b"\0", b"\1"]),
        ([b"", b"AQ"], [b"", b"\1"]),  # no bytes are a value, too
    ],
)
def test_binary(values: list[bytes], expected: list[bytes]) -> None:
    """GR-12: base64 with and without padding, repeated or joined."""
    assert Metadata([(b"k-bin", value) for value in values]).get_binary("k-bin") == expected


@pytest.mark.parametrize("value", [b"A", b"AA$=", b"\xff"])
def test_not_base64(value: bytes) -> None:
    with pytest.raises(RpcError, match="k-bin") as caught:
        Metadata([(b"k-bin", value)]).get_binary("k-bin")

    assert caught.value.code == Status.INVALID_ARGUMENT


def test_repr_hides_values() -> None:
    assert "hunter2" not in repr(Metadata([(b"password", b"hunter2")]))
