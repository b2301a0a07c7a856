"""Header blocks, decoded as hpack does but in time."""

from __future__ import annotations

import time

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.http2.header_decoder import HeaderDecoder

names = st.one_of(st.sampled_from([b":path", b"accept", b"x"]), st.binary(max_size=300))
fields = st.lists(st.tuples(names, st.binary(max_size=300), st.booleans()), max_size=20)


def decoded(decoder: hpack.Decoder, block: bytes) -> list[tuple[bytes, ...]] | None:
    """The fields, ``None`` if the block is refused."""
    try:
        return [tuple(field) for field in decoder.decode(block, raw=True)]
    except hpack.HPACKError:
        return None


@given(st.lists(fields, max_size=3), st.booleans())
def test_blocks_are_decoded_as_by_hpack(blocks: list[list[tuple[bytes, bytes, bool]]], huffman: bool) -> None:
    encoder, ours, theirs = hpack.Encoder(), HeaderDecoder(), hpack.Decoder()
    for block in blocks:
        wire = encoder.encode(block, huffman=huffman)
        assert decoded(ours, wire) == decoded(theirs, wire) == [field[:2] for field in block]


@given(st.binary(max_size=60))
def test_nonsense_is_refused_as_by_hpack(block: bytes) -> None:
    assert decoded(HeaderDecoder(), block) == decoded(hpack.Decoder(), block)


@pytest.mark.parametrize("sensitive", [False, True], ids=["indexed", "never indexed"])
def test_the_time_grows_with_the_length(sensitive: bool) -> None:
    """Four times the fields, not sixteen times the time."""

    def seconds(count: int) -> float:
        field = hpack.NeverIndexedHeaderTuple if sensitive else hpack.HeaderTuple
        block = hpack.Encoder().encode([field(b"k%d" % n, b"x" * 100) for n in range(count)], huffman=False)
        decoder = HeaderDecoder(max_header_list_size=1 << 30)
        begun = time.process_time()
        decoder.decode(block, raw=True)
        return time.process_time() - begun

    assert min(seconds(12_000) for _ in range(3)) < 8 * min(seconds(3_000) for _ in range(3))
