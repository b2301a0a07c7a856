"""What is put into an inbox comes out, in order and unchanged, however memory is used again below it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.http2.inbox import BULK, CHUNK, MAX_CHUNKS, Chunks, Inbox

FRAME = 16 * 1024

puts = st.lists(st.integers(0, FRAME), max_size=12)
steps = st.lists(st.one_of(puts, st.just("take"), st.just("keep")), max_size=60)


def bulky(chunks: Chunks) -> Inbox:
    """An inbox whose stream has shown that it is worth a chunk."""
    inbox = Inbox(chunks)
    inbox.put([bytes(BULK)])
    inbox.take()
    return inbox


@given(steps, st.booleans())
def test_all_comes_out(actions: list[list[int] | str], bulk: bool) -> None:
    inbox = bulky(Chunks()) if bulk else Inbox(Chunks())
    put, taken, kept = bytearray(), bytearray(), []
    for number, action in enumerate(actions):
        if isinstance(action, list):
            lent = [bytearray([number]) * size for size in action]
            inbox.put(lent)
            put += b"".join(lent)
            for piece in lent:
                piece[:] = b"!" * len(piece)  # as the next read does
        elif inbox:
            out = inbox.take()
            assert len(out)
            taken += out
            if action == "keep":
                kept.append((out, bytes(out)))
        assert len(inbox) == len(put) - len(taken)
    while inbox:
        taken += inbox.take()

    assert taken == put
    assert all(piece == copy for piece, copy in kept)


def test_bulk_is_taken_in_large_pieces() -> None:
    inbox = bulky(Chunks())
    for _ in range(CHUNK // FRAME):
        inbox.put([bytes(FRAME)])

    assert len(inbox.take()) == CHUNK
    assert not inbox


def test_little_takes_no_chunk() -> None:
    chunks = Chunks()
    Inbox(chunks).put([b"a message"])

    taken = [chunks.take() for _ in range(MAX_CHUNKS)]

    assert all(taken)


def test_a_chunk_is_used_again_once_nobody_looks_at_it() -> None:
    chunks = Chunks()
    views = [chunks.take() for _ in range(MAX_CHUNKS)]
    assert not chunks.take()

    part = views.pop(7)[5:6]
    assert not chunks.take(), "a part of it is looked at"

    del part
    assert len(chunks.take()) == CHUNK


def test_streams_without_a_chunk_lose_nothing() -> None:
    chunks = Chunks()
    inbox = bulky(chunks)
    held = [chunks.take() for _ in range(MAX_CHUNKS)]
    for number in range(100):
        inbox.put([bytes([number]) * FRAME])

    taken = b"".join(iter(lambda: inbox.take() if inbox else b"", b""))

    assert taken == b"".join(bytes([number]) * FRAME for number in range(100))
    assert len(held) == MAX_CHUNKS
