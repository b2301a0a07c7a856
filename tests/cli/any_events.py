"""Progress that no daemon sends, and that a hostile one may."""

from __future__ import annotations

from hypothesis import strategies as st

from buildkit_session.engine.events import ProgressGroup, Vertex, VertexLog, VertexStatus, VertexWarning
from buildkit_session.source import Position, SourceFile, SourceRange

# Few, so that events are about the same steps; a group may be called like a step.
digests = st.sampled_from(["", "a", "b", "group a"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers(0, 2**31 - 1)
moments = st.sampled_from([0, 1, 5 * 10**9]) | st.integers(-(10**18), 4 * 10**18)
times = st.none() | moments
vertexes = st.builds(
    Vertex,
    digests,
    texts,
    st.lists(digests, max_size=2).map(tuple),
    st.booleans(),
    times,
    times,
    st.sampled_from(["", "no", "context canceled"]) | texts,
    st.none() | st.builds(ProgressGroup, digests, texts, st.booleans()),
)
statuses = st.builds(VertexStatus, texts, digests, texts, numbers, numbers, moments, times, times)
logs = st.builds(VertexLog, digests, moments, numbers, st.binary(max_size=8))
positions = st.builds(Position, numbers, numbers)
warnings = st.builds(
    VertexWarning,
    digests,
    numbers,
    texts,
    st.lists(texts, max_size=2).map(tuple),
    texts,
    st.none() | st.builds(SourceFile, texts, st.binary(max_size=8), texts),
    st.lists(st.builds(SourceRange, positions, positions), max_size=2).map(tuple),
)
any_events = st.lists(vertexes | statuses | logs | warnings, max_size=12)
