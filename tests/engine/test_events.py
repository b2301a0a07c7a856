"""Events as text: what ``on_event=print`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import buildkit_session as bk
from buildkit_session.source import SourceExcerpt, SourceFile

if TYPE_CHECKING:
    from buildkit_session.engine.events import ProgressEvent

STEP = "[1/2] RUN make"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (bk.Vertex("sha256:a", STEP), f"{STEP}: waiting"),
        (bk.Vertex("sha256:a", STEP, started=1), f"{STEP}: started"),
        (bk.Vertex("sha256:a", STEP, started=1, completed=1_500_000_001), f"{STEP}: done 1.5s"),
        (bk.Vertex("sha256:a", STEP, started=1, completed=2, cached=True), f"{STEP}: cached"),
        (bk.Vertex("sha256:a", STEP, started=1, completed=2, error="no\x1b[2J"), f"{STEP}: error: no\\x1b[2J"),
        (bk.VertexStatus("transferring context:", "sha256:a", "", 2000, 0), "transferring context: 2,000 bytes"),
        (bk.VertexStatus("layer", "sha256:a", "", 1, 2, completed=3), "layer: 1 of 2 bytes: done"),
        (bk.VertexStatus("layer", "sha256:a", "", 0, 0), "layer"),
        (bk.VertexLog("sha256:a", 1, 1, b"hello \xff\n"), "hello \N{REPLACEMENT CHARACTER}"),
        (bk.VertexWarning("sha256:a", 1, "odd"), "warning: odd"),
        (bk.ImageId("sha256:b"), "image sha256:b"),
        (bk.EngineText("Successfully built\n"), "Successfully built"),
    ],
)
def test_an_event_is_a_line(event: ProgressEvent, text: str) -> None:
    assert str(event) == text
    assert repr(event) != text


def test_what_is_long_is_in_no_repr() -> None:
    assert "FROM" not in repr(SourceExcerpt(SourceFile("Dockerfile", b"FROM scratch")))
    result = bk.BuildResult(None, (), metadata={"key": "SGVsbG8="})
    assert "SGVsbG8" not in repr(result)
