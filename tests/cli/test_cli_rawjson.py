"""Progress for programs, beside the format of buildx."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from any_events import any_events
from hypothesis import given
from recorded_builds import events_of, recorded

from buildkit_session import connect
from buildkit_session.cli.rawjson import RawJsonDisplay
from buildkit_session.engine.events import (
    EngineText,
    ImageId,
    ProgressEvent,
    Vertex,
    VertexLog,
    VertexStatus,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

DOCKERFILE = """
FROM scratch
MAINTAINER somebody
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "echo one; echo two >&2"]
"""


def shown(*events: ProgressEvent) -> str:
    display = RawJsonDisplay()
    for event in events:
        display.handle(event)
    return display.start() + display.refresh(0) + display.finish(None)


@given(any_events)
def test_what_is_written_can_be_read_again_in_the_same_order(events: list[ProgressEvent]) -> None:
    text = shown(*events)
    assert text.isascii()
    assert [event for line in text.splitlines() for event in events_of(json.loads(line))] == events


@pytest.mark.parametrize("name", ["parallel", "cached", "failing"])
def test_recorded_builds_are_written_again(name: str) -> None:
    events = list(recorded(name))
    assert [event for line in shown(*events).splitlines() for event in events_of(json.loads(line))] == events


def test_an_object_ends_where_order_demands_it_and_with_a_refresh() -> None:
    display = RawJsonDisplay()
    log = VertexLog("a", 0, 1, b"x")
    for event in (Vertex("a", "a"), Vertex("b", "b"), log, log, Vertex("a", "a")):
        display.handle(event)
    parts = [{name: len(items) for name, items in json.loads(line).items()} for line in display.refresh(0).splitlines()]
    assert parts == [{"vertexes": 2, "logs": 2}, {"vertexes": 1}]
    assert display.refresh(1) == ""
    display.handle(log)
    assert display.finish(None).count("\n") == 1


def test_fields_are_spelled_as_buildx_does() -> None:
    """Lines of buildx 0.29.1, with shorter values."""
    vertex = Vertex("sha256:2", "name", started=1_795_627_437_123_046_417, completed=1_795_627_437_140_000_000)
    status = VertexStatus("transferring:", "sha256:2", "transferring", 0, 0, timestamp=1_795_627_437_000_000_000)
    assert shown(vertex, status) == (
        '{"vertexes":[{"digest":"sha256:2","name":"name","started":"2026-11-25T17:23:57.123046417Z",'
        '"completed":"2026-11-25T17:23:57.14Z"}],"statuses":[{"id":"transferring:","vertex":"sha256:2",'
        '"name":"transferring","current":0,"timestamp":"2026-11-25T17:23:57Z"}]}\n'
    )


def test_empty_values_that_are_written_nevertheless() -> None:
    assert json.loads(shown(VertexStatus("", "", "", 0, 0), VertexLog("", None, 0, b""))) == {
        "statuses": [{"id": "", "current": 0, "timestamp": "1970-01-01T00:00:00Z"}],
        "logs": [{"data": "", "timestamp": "1970-01-01T00:00:00Z"}],
    }


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (2**63 * 10**9, "9999-12-31T23:59:59.999999999Z"),
        (-(2**63) * 10**9, "0001-01-01T00:00:00Z"),
    ],
)
def test_no_time_is_impossible(time: int, text: str) -> None:
    assert json.loads(shown(Vertex("a", "a", started=time)))["vertexes"][0]["started"] == text


def test_what_is_not_of_buildkit_has_no_place() -> None:
    assert shown(ImageId("sha256:1"), EngineText("Successfully tagged x")) == ""


def keys(lines: Iterable[str]) -> dict[str, set[str]]:
    """The keys that were met in each part, with those of objects inside."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        for part, items in json.loads(line).items():
            for item in items:
                found[part] |= set(_keys(item))
    return found


def _keys(item: dict[str, Any], prefix: str = "") -> Iterable[str]:
    for name, value in item.items():
        yield prefix + name
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from _keys(inner, f"{prefix}{name}.")


@pytest.mark.anyio
async def test_a_build_has_the_fields_that_buildx_shows(
    daemon: Daemon, reference: ReferenceClient, busybox: Path, tmp_path: Path
) -> None:
    shutil.copy(busybox, tmp_path / "busybox")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    theirs = reference.build(daemon.address, "--progress=rawjson", "--no-cache", tmp_path).stderr
    display = RawJsonDisplay()
    async with (
        connect(daemon.address) as client,
        client.start(str(tmp_path), no_cache=True, network="none") as build,
    ):
        async for event in build:
            display.handle(event)
    expected = keys(line for line in theirs.splitlines() if line.startswith("{"))
    expected["warnings"] = {key for key in expected["warnings"] if not key.startswith("sourceInfo.definition")}
    assert {"vertexes", "statuses", "logs"} <= set(expected)
    found = keys(display.finish(None).splitlines())
    assert {part: found[part] for part in expected} == expected
