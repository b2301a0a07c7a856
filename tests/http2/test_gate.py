"""The gate cuts bytes into frames, whatever the pieces, and refuses early."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.http2.events import GoAwayReceived
from buildkit_session.http2.frames import Run
from buildkit_session.http2.gate import PREFACE, FrameGate, known_settings, parse_goaway


def frame(kind: int, payload: bytes = b"", stream_id: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, 0)) + stream_id.to_bytes(4, "big") + payload


DATA = frame(0, b"x" * 40, 1)
PING = frame(6, b"12345678")
GOAWAY = frame(7, (5).to_bytes(4, "big") + (2).to_bytes(4, "big") + b"why")
SESSION = PREFACE + PING + DATA + GOAWAY + DATA
FRAMES = [PING, DATA, GOAWAY, DATA]


def gate() -> FrameGate:
    return FrameGate(max_frame=64, expect_preface=True)


def fed(cutter: FrameGate, data: bytes) -> list[bytes]:
    """Feed a buffer that is used for something else right afterwards."""
    lent = bytearray(data)
    frames = []
    for out in cutter.feed(memoryview(lent)):
        if isinstance(out, Run):
            assert out.pieces
            frames += [frame(0, bytes(piece), out.stream_id) for piece in out.pieces]
            continue
        kind, flags, stream_id, wire = out
        assert (kind, flags, stream_id) == (wire[3], wire[4], int.from_bytes(wire[5:9], "big") & 0x7FFFFFFF)
        frames.append(bytes(wire))
    lent[:] = b"\xff" * len(lent)
    return frames


def test_whole() -> None:
    """All frames of one piece come out in order."""
    assert fed(gate(), SESSION) == FRAMES


def test_byte_by_byte() -> None:
    """HF-02: every frame comes out with its last byte."""
    cutter = gate()

    assert [out for byte in SESSION for out in fed(cutter, bytes((byte,)))] == FRAMES


def test_trailing_bytes() -> None:
    """The beginning of a frame is kept until the rest has arrived."""
    cutter = gate()

    assert fed(cutter, SESSION + DATA[:20]) == FRAMES
    assert fed(cutter, DATA[20:] + PING[:3]) == [DATA]


@given(st.lists(st.integers(0, len(SESSION)), max_size=12))
def test_any_cuts(cuts: list[int]) -> None:
    """The pieces make no difference."""
    cutter = gate()
    edges = [0, *sorted(cuts), len(SESSION)]

    pieces = [SESSION[start:end] for start, end in itertools.pairwise(edges)]

    assert [out for piece in pieces for out in fed(cutter, piece)] == FRAMES


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", PREFACE[:10] + b"!", b"\0"])
def test_wrong_preface(data: bytes) -> None:
    """HF-01: the first wrong byte is refused."""
    with pytest.raises(RemoteProtocolError, match="does not speak HTTP/2"):
        gate().feed(data)


def test_without_preface() -> None:
    """A server's bytes begin with a frame."""
    assert fed(FrameGate(max_frame=64, expect_preface=False), PING) == [PING]


def test_oversize_frame() -> None:
    """HF-05: the header alone is enough; the text names both numbers and the code is FRAME_SIZE_ERROR."""
    header = frame(0, b"x" * 65)[:9]

    with pytest.raises(RemoteProtocolError, match=r"65 bytes, 64 are allowed") as caught:
        gate().feed(PREFACE + header)

    assert caught.value.code == 6


@pytest.mark.parametrize(("bad", "code"), [(frame(7, b"1234567"), 6), (frame(7, b"12345678", 1), 1)])
def test_malformed_goaway(bad: bytes, code: int) -> None:
    """A GOAWAY that is too short, or on a stream, is the peer's fault."""
    with pytest.raises(RemoteProtocolError, match="GOAWAY") as caught:
        parse_goaway(bad)

    assert caught.value.code == code


def test_unknown_settings() -> None:
    """HF-10: they are dropped, the others pass; half a setting stays for ``h2`` to refuse."""
    known, unknown = b"\0\x04\0\0\0\x01", b"\xff\x04\0\0\0\x01"

    frames = [frame(4, unknown + known + unknown), frame(4, unknown), frame(4, known + b"\xff")]

    assert [known_settings(each) for each in frames] == [frame(4, known), frame(4), frame(4, known + b"\xff")]


def test_goaway_text_is_cut() -> None:
    """HF-16: of the text a peer sends along a bounded part is kept."""
    assert parse_goaway(GOAWAY) == GoAwayReceived(2, 5, b"why")
    assert len(parse_goaway(frame(7, bytes(8) + b"x" * 16000)).debug) == 1024


@given(st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    """Anything is either cut into frames that make up the input, or refused with the one error."""
    cutter = FrameGate(max_frame=64, expect_preface=False)
    try:
        frames = fed(cutter, data)
    except RemoteProtocolError:
        return

    assert data.startswith(b"".join(frames))
    assert all(len(piece) == 9 + int.from_bytes(piece[:3], "big") for piece in frames)
