"""What a client makes of what a server has sent: success is one thing only."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.errors import StreamReset
from buildkit_session.grpc.outcome import MAX_TEXT, fault_of_response, status_of_reset, status_of_trailers
from buildkit_session.grpc.status import Status, status_trailers

GRPC = (b"content-type", b"application/grpc")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([b"0"], 0),
        ([b"5"], 5),
        ([b"16"], 16),
        ([b"17"], 17),  # kept: the numbers of a later version
        ([b"999999999"], 999_999_999),
        ([], Status.UNKNOWN),
        ([b""], Status.UNKNOWN),
        ([b"00"], Status.UNKNOWN),
        ([b"-0"], Status.UNKNOWN),
        ([b"+0"], Status.UNKNOWN),
        ([b" 0"], Status.UNKNOWN),
        ([b"0 "], Status.UNKNOWN),
        ([b"0x0"], Status.UNKNOWN),
        ([b"0.0"], Status.UNKNOWN),
        ([b"OK"], Status.UNKNOWN),
        ([b"0,0"], Status.UNKNOWN),
        ([b"4294967296"], Status.UNKNOWN),
        (["\N{ARABIC-INDIC DIGIT ZERO}".encode()], Status.UNKNOWN),
        ([b"0", b"0"], Status.UNKNOWN),
        ([b"13", b"0"], Status.UNKNOWN),
        ([b"0", b"13"], Status.UNKNOWN),
    ],
)
def test_codes(codes: list[bytes], expected: int) -> None:
    """CL-01, CL-03: what is not exactly one number is a failure."""
    assert status_of_trailers([(b"a", b"0"), *[(b"grpc-status", code) for code in codes]]).code == expected


def test_text_and_details() -> None:
    """GR-13, and details padded or not."""
    status = status_of_trailers(
        [(b"grpc-message", b"100%25 \xc3\xbc%C3%BC %zz"), (b"grpc-status", b"9"), (b"grpc-status-details-bin", b"AAE")]
    )

    assert (status.code, status.message, status.details) == (9, "100% üü %zz", b"\0\1")


@pytest.mark.parametrize("value", [b"", b"=", b"A", b"A===", b"!!!!", b"AAE,AAE", b"\xff\0", "ß".encode()])
def test_details_of_any_shape(value: bytes) -> None:
    """CL-14: they never hide the error that they describe."""
    status = status_of_trailers([(b"grpc-status", b"5"), (b"grpc-status-details-bin", value)])

    assert (status.code, status.details) == (5, b"")


@pytest.mark.parametrize("character", ["x", "ü", "%", "\U0001f600"])
def test_long_text_is_cut(character: str) -> None:
    """HP-07: at the same length, however it is encoded."""
    encoded = b"".join(b"%%%02X" % byte for byte in character.encode()) * 2 * MAX_TEXT

    assert status_of_trailers([(b"grpc-status", b"2"), (b"grpc-message", encoded)]).message == character * MAX_TEXT


@given(st.integers(1, 16), st.text(st.characters(exclude_categories=["Cs"]), max_size=50), st.binary(max_size=50))
def test_round_trip(code: int, text: str, details: bytes) -> None:
    """What our own server sends."""
    status = status_of_trailers(status_trailers(code, text, details))

    assert (status.code, status.message, status.details) == (code, text, details)


@given(st.lists(st.tuples(st.sampled_from([b"grpc-status", b"grpc-message", b"grpc-status-details-bin"]), st.binary())))
def test_anything(trailers: list[tuple[bytes, bytes]]) -> None:
    status = status_of_trailers(trailers)

    assert (status.code == Status.OK) == ([value for name, value in trailers if name == b"grpc-status"] == [b"0"])
    assert fault_of_response([(b":status", b"200"), GRPC, *trailers]) is None
    assert fault_of_response(trailers) is not None


@pytest.mark.parametrize("kind", [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=utf-8"])
def test_grpc(kind: bytes) -> None:
    assert fault_of_response([(b":status", b"200"), (b"content-type", kind)]) is None


@pytest.mark.parametrize(
    ("http", "code"),
    [
        (b"200", Status.UNKNOWN),
        (b"301", Status.UNKNOWN),
        (b"400", Status.INTERNAL),
        (b"401", Status.UNAUTHENTICATED),
        (b"403", Status.PERMISSION_DENIED),
        (b"404", Status.UNIMPLEMENTED),
        (b"418", Status.UNKNOWN),
        (b"429", Status.UNAVAILABLE),
        (b"500", Status.UNKNOWN),
        (b"502", Status.UNAVAILABLE),
        (b"503", Status.UNAVAILABLE),
        (b"504", Status.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("extra", [[], [(b"grpc-status", b"0")]], ids=["", "and says that all is well"])
def test_error_pages(http: bytes, code: Status, extra: list[tuple[bytes, bytes]]) -> None:
    """CL-02: never success, whatever else it says."""
    fault = fault_of_response([(b":status", http), (b"content-type", b"text/html"), *extra])

    assert fault is not None
    assert fault.code == code
    assert f"HTTP status {http.decode()}" in fault.message


@pytest.mark.parametrize("kind", [b"", b"application/grpc-web", b"application/grpcx", b"APPLICATION/JSON"])
def test_foreign_content_types(kind: bytes) -> None:
    """CL-09."""
    fault = fault_of_response([(b":status", b"200"), (b"content-type", kind)])

    assert fault is not None
    assert repr(kind) in fault.message


def test_a_proxy_may_say_what_it_means() -> None:
    fault = fault_of_response([(b":status", b"503"), (b"grpc-status", b"7"), (b"grpc-message", b"not you")])

    assert fault is not None
    assert (fault.code, fault.message) == (7, "not you")


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, 13), (1, 13), (2, 13), (3, 13), (5, 13), (7, 14), (8, 1), (9, 13), (11, 8), (12, 7), (13, 13), (99, 13)],
)
def test_resets(code: int, expected: int) -> None:
    """CL-04: none of them is success, NO_ERROR included."""
    assert status_of_reset(StreamReset(code, by="peer")).code == expected


def test_a_server_may_be_first_to_notice_the_deadline() -> None:
    """grpc-go cancels the stream when the time is over."""
    assert status_of_reset(StreamReset(8, by="peer"), expired=True).code == Status.DEADLINE_EXCEEDED
    assert status_of_reset(StreamReset(2, by="peer"), expired=True).code == Status.INTERNAL


def test_malformed_answer() -> None:
    status = status_of_reset(StreamReset(1, by="library"))

    assert status.code == Status.INTERNAL
    assert "malformed" in status.message


def test_details_survive_the_trip() -> None:
    details = bytes(range(256))
    for value in (b64encode(details), b64encode(details).rstrip(b"=")):
        assert status_of_trailers([(b"grpc-status", b"5"), (b"grpc-status-details-bin", value)]).details == details
