"""Requests to ssh agents: where they begin and end, and which of them an agent may see."""

from __future__ import annotations

import pytest

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.services.agent_protocol import Frames, framed, refusal

BODIES = [b"\x0b", b"\x0d" + b"x" * 300, b"\x1b"]
STREAM = b"".join(map(framed, BODIES))


@pytest.mark.parametrize("step", [1, 3, 5, 100, len(STREAM)])
def test_bodies_are_found_however_the_stream_is_cut(step: int) -> None:
    frames = Frames(1000)
    found = [body for at in range(0, len(STREAM), step) for body in frames.feed(STREAM[at : at + step])]
    assert found == BODIES


def test_what_is_not_whole_waits() -> None:
    frames = Frames(1000)
    assert list(frames.feed(framed(b"\x0b") + framed(b"\x0d" * 9)[:-1])) == [b"\x0b"]
    assert list(frames.feed(b"\x0d")) == [b"\x0d" * 9]


@pytest.mark.parametrize("size", [0, 11, 2**32 - 1])
def test_a_length_out_of_bounds_is_seen_before_the_body(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"of {size} bytes"):
        list(Frames(10).feed(size.to_bytes(4)))


@pytest.mark.parametrize("kind", range(256))
def test_an_agent_sees_requests_for_keys_and_signatures_alone(kind: int) -> None:
    """AU-19."""
    answer = refusal(bytes([kind]) + b"body")
    assert (answer is None) == (kind in {11, 13})


@pytest.mark.parametrize(
    ("kind", "answer"),
    [(1, b"\x02\0\0\0\0"), (9, b"\x06"), (17, b"\x05"), (19, b"\x05"), (23, b"\x05"), (27, b"\x1c"), (200, b"\x05")],
)
def test_refusals(kind: int, answer: bytes) -> None:
    """Unlocking neither, which upstream passes on."""
    assert refusal(bytes([kind])) == answer
