"""Requests to ssh agents: where they begin and end, and which of them an agent may see; and answers of agents."""

from __future__ import annotations

import pytest

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.services.agent_messages import (
    Identity,
    Signing,
    checked,
    fingerprint,
    identities_answer,
    read_identities,
    read_signing,
)
from buildkit_session.services.agent_protocol import Frames, framed, refusal

SIGN = b"\x0d\0\0\0\x03key\0\0\0\x04data\0\0\0\x02"
KEYS = b"\x0c\0\0\0\x02\0\0\0\x01a\0\0\0\x03one\0\0\0\x01b\0\0\0\0"
SIGNATURE = b"\x0e\0\0\0\x03sig"
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


@pytest.mark.parametrize("kind", set(range(256)) - {11, 13})
def test_an_agent_sees_requests_for_keys_and_signatures_alone(kind: int) -> None:
    """AU-19."""
    assert refusal(bytes([kind]) + SIGN[1:]) is not None
    assert refusal(bytes([kind])) is not None


def test_an_agent_sees_well_formed_requests_alone() -> None:
    """Cut anywhere, or with a byte too many, it could mean something else to the agent than it does here."""
    assert refusal(b"\x0b") is refusal(SIGN) is None
    wrong = [b"\x0b\0", SIGN + b"\0", *(SIGN[:end] for end in range(1, len(SIGN))), SIGN[:1] + b"\xff" + SIGN[2:]]
    assert {refusal(request) for request in wrong} == {b"\x05"}


@pytest.mark.parametrize(
    ("kind", "answer"),
    [(1, b"\x02\0\0\0\0"), (9, b"\x06"), (17, b"\x05"), (19, b"\x05"), (23, b"\x05"), (27, b"\x1c"), (200, b"\x05")],
)
def test_refusals(kind: int, answer: bytes) -> None:
    """Unlocking neither, which upstream passes on."""
    assert refusal(bytes([kind])) == answer


def test_what_is_asked_and_answered() -> None:
    assert read_signing(SIGN) == Signing(b"key", b"data", 2)
    assert read_identities(KEYS) == (Identity(b"a", b"one"), Identity(b"b", b""))
    assert identities_answer(read_identities(KEYS)) == KEYS
    assert fingerprint(b"") == "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"


@pytest.mark.parametrize(("request_", "answer"), [(b"\x0b", KEYS), (SIGN, SIGNATURE)], ids=["keys", "signature"])
def test_answers_are_looked_at(request_: bytes, answer: bytes) -> None:
    """An agent may refuse anything; and whatever it says that is no answer goes to no step."""
    assert checked(request_, answer) == answer
    assert checked(request_, b"\x05") == b"\x05"
    other = SIGNATURE if answer == KEYS else KEYS
    endless = b"\x0c\xff\xff\xff\xff" + KEYS[5:]
    for wrong in (b"", other, answer + b"\0", b"\x06", b"\x05\0", endless, *(answer[:n] for n in range(len(answer)))):
        with pytest.raises(RemoteProtocolError):
            checked(request_, wrong)
