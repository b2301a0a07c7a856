"""Header blocks that are cut into frames: joined, bounded, and never interrupted."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st
from scripted_peer import h2_client, request

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.http2.core import Core
from buildkit_session.http2.events import StreamEnded, StreamOpened

HEADERS, CONTINUATION = 1, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32


def served(**limits: int) -> Core:
    """A core that has taken the preface of a client."""
    core, client = Core(**limits), h2_client()
    client.initiate_connection()
    core.receive_data(client.data_to_send())
    return core


def frame(kind: int, payload: bytes, flags: int = 0, stream_id: int = 1) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


@given(st.lists(st.integers(0, 60), max_size=6), st.sampled_from([None, 0, 7]), st.booleans())
def test_any_cuts(cuts: list[int], padding: int | None, priority: bool) -> None:
    block = Encoder().encode(request())
    edges = [0, *sorted(cut for cut in cuts if cut < len(block)), len(block)]
    pieces = [block[start:end] for start, end in pairwise(edges)]
    first, flags = pieces[0], END_STREAM
    if priority:
        first, flags = b"\0\0\0\0\x10" + first, flags | PRIORITY
    if padding is not None:
        first, flags = bytes((padding,)) + first + bytes(padding), flags | PADDED
    frames = [frame(HEADERS, first, flags | (END_HEADERS if len(pieces) == 1 else 0))]
    frames += [frame(CONTINUATION, piece) for piece in pieces[1:-1]]
    frames += [frame(CONTINUATION, pieces[-1], END_HEADERS)] if len(pieces) > 1 else []

    assert served().receive_data(b"".join(frames)) == [StreamOpened(1, request()), StreamEnded(1)]


def test_two_megabytes() -> None:
    """HP-05: what does not compress, in more CONTINUATION frames than h2 would take."""
    patterns = [(b"exclude-patterns", b"%08d/%s" % (n * 7919, b"~{}|^" * 12)) for n in range(25000)]
    client = h2_client()
    client.initiate_connection()
    client.send_headers(1, [*request(), *patterns], end_stream=True)
    wire = client.data_to_send()

    opened, _ = Core().receive_data(wire)

    assert len(wire) > 2_000_000
    assert isinstance(opened, StreamOpened)
    assert opened.headers[-25000:] == patterns


@pytest.mark.parametrize(
    "between",
    [frame(0, b"data"), frame(6, bytes(8), stream_id=0), frame(CONTINUATION, b"", stream_id=3), frame(HEADERS, b"")],
    ids=["DATA", "PING", "CONTINUATION of another stream", "HEADERS"],
)
def test_nothing_comes_between(between: bytes) -> None:
    """HF-09."""
    with pytest.raises(RemoteProtocolError, match="within a header block") as caught:
        served().receive_data(frame(HEADERS, b"") + between)

    assert caught.value.code == 1


@pytest.mark.parametrize("size", [0, 16384])
def test_endless_block(size: int) -> None:
    """Refused by what has arrived, empty frames included, with ENHANCE_YOUR_CALM."""
    core = served(max_header_list=1 << 20)
    endless = frame(HEADERS, b"") + frame(CONTINUATION, bytes(size)) * (1 + (1 << 20) // (9 + size))

    with pytest.raises(RemoteProtocolError, match="header block of more than 1048576 bytes") as caught:
        core.receive_data(endless)

    assert caught.value.code == 11


def test_padding_beyond_the_frame() -> None:
    with pytest.raises(RemoteProtocolError, match="padding"):
        served().receive_data(frame(HEADERS, b"\x09abc", PADDED))
