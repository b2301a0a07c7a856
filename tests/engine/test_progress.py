"""Progress messages as events."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.engine.events import (
    EngineText,
    ImageId,
    ProgressGroup,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from buildkit_session.engine.progress import decode_object, decode_status, failure_of
from buildkit_session.errors import RemoteProtocolError
from buildkit_session.messages import pb
from buildkit_session.messages.moby.buildkit import v1 as wire
from buildkit_session.messages.nanotime import Timestamp
from buildkit_session.source import Position, SourceFile, SourceRange

# Sent by Docker Engine 28.5.2 while it exported an image.
CAPTURED = (
    "CmsKR3NoYTI1NjpmMWM5ZDIzNTNhOWRlZjgwOTI2OGRmMjhhMjU4YzExNTA2ODcxMWE0ZmFiYzM1MjNkOGJhZDIxOTgyMDc3MjFjGhJleHBvcnRpbmcg"
    "dG8gaW1hZ2UqDAi2zZLYBhDgu+vBAg=="
)
CAPTURED_VERTEX = Vertex(
    digest="sha256:f1c9d2353a9def809268df28a258c115068711a4fabc3523d8bad2198207721c",
    name="exporting to image",
    started=1_795_466_934_674_946_528,
)


def test_captured_message() -> None:
    """A real message keeps its nanoseconds."""
    assert decode_status(base64.b64decode(CAPTURED)) == [CAPTURED_VERTEX]


def test_every_part() -> None:
    """Steps come first, then statuses, logs and warnings, each with all that was sent."""
    time = Timestamp(seconds=-1, nanos=999_999_999)  # one nanosecond before 1970
    places = [pb.Range(start=pb.Position(line=2, character=3), end=pb.Position(line=4)), pb.Range()]
    info = pb.SourceInfo(filename="Dockerfile", data=b"FROM \xff\n", definition=pb.Definition(), language="D")
    data = bytes(
        wire.StatusResponse(
            warnings=[
                wire.VertexWarning(
                    vertex="v", level=1, short=b"s\xff", detail=[b"a", b"b"], url="u", info=info, ranges=places
                )
            ],
            logs=[wire.VertexLog(vertex="v", timestamp=time, stream=2, msg=b"raw\xff\x1b[0m")],
            statuses=[wire.VertexStatus(id="i", vertex="v", name="n", current=1, total=2**40, timestamp=time)],
            vertexes=[
                wire.Vertex(
                    digest="v",
                    inputs=["a", "b"],
                    name="n",
                    cached=True,
                    started=time,
                    completed=time,
                    error="e",
                    progress_group=pb.ProgressGroup(id="g", name="group", weak=True),
                )
            ],
        )
    )

    assert decode_status(data) == [
        Vertex("v", "n", ("a", "b"), True, -1, -1, "e", ProgressGroup("g", "group", weak=True)),
        VertexStatus("i", "v", "n", 1, 2**40, timestamp=-1),
        VertexLog("v", -1, 2, b"raw\xff\x1b[0m"),
        VertexWarning(
            "v",
            1,
            "s\ufffd",
            ("a", "b"),
            "u",
            SourceFile("Dockerfile", b"FROM \xff\n", "D"),
            (SourceRange(Position(2, 3), Position(4)), SourceRange(Position(0), Position(0))),
        ),
    ]


def test_empty_message() -> None:
    """A message without parts is no event."""
    assert decode_status(b"") == []


@given(st.binary(max_size=64))
def test_any_message(data: bytes) -> None:
    """No bytes raise anything but the error that is promised."""
    try:
        decode_status(data)
    except RemoteProtocolError:
        return


@pytest.mark.parametrize(
    ("entry", "events"),
    [
        ({"id": "moby.buildkit.trace", "aux": CAPTURED}, [CAPTURED_VERTEX]),
        ({"id": "moby.image.id", "aux": {"ID": "sha256:1"}}, [ImageId("sha256:1")]),
        ({"stream": "Successfully tagged a:b\n"}, [EngineText("Successfully tagged a:b\n")]),
        ({"id": "moby.of.tomorrow", "aux": [1]}, []),
        ({"id": "moby.image.id", "aux": None}, []),
        ({"status": "Downloading", "progressDetail": {"current": 1}}, []),
        ({"id": ["unhashable"]}, []),
        ({}, []),
    ],
)
def test_objects(entry: dict[str, object], events: list[object]) -> None:
    """Known objects give events, unknown ones nothing."""
    assert decode_object(entry) == events


@pytest.mark.parametrize("aux", [None, 3, {}, "not base64!", "AAA", "CmsK", "\u20ac"])
def test_broken_trace(aux: object) -> None:
    """A progress object that cannot be read is never skipped: it may hold the failure."""
    with pytest.raises(RemoteProtocolError):
        decode_object({"id": "moby.buildkit.trace", "aux": aux})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"errorDetail": {"message": "m", "code": 1}, "error": "short"}, "m"),
        ({"error": "short"}, "short"),
        ({"errorDetail": {}, "error": "short"}, "short"),
        ({"errorDetail": {"message": 3}}, "the Engine gave no reason"),
        ({"errorDetail": None}, "the Engine gave no reason"),
        ({"stream": "error"}, None),
        ({}, None),
    ],
)
def test_failures(entry: dict[str, object], message: str | None) -> None:
    """Whatever its shape, an error object is a failure."""
    assert failure_of(entry) == message
