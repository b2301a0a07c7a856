"""Records of builds, as a daemon sends them."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest

from buildkit_session.engine.history_values import (
    BlobReference,
    BuildRecord,
    BuildState,
    RecordedExporter,
    build_record,
)
from buildkit_session.messages.moby.buildkit.v1 import (
    BlobDescriptor,
    BuildHistoryEvent,
    BuildHistoryRecord,
    BuildResultInfo,
)

# Events of Control.ListenBuildHistory, sent by Docker Engine 28.5.2: one build of each state.
RECORDED: dict[str, str] = json.loads(Path(__file__, "../recordings/history.json").resolve().read_text())

PROVENANCE = {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}


def recorded(name: str) -> BuildRecord:
    record = BuildHistoryEvent.parse(b64decode(RECORDED[name])).record
    assert record is not None
    return build_record(record)


@pytest.mark.parametrize("state", BuildState)
def test_states(state: BuildState) -> None:
    """They are called as the daemon's filter calls them, under which the records were kept here."""
    record = recorded(state)
    assert record.state == state
    assert (record.duration is None) == (record.completed is None) == (state == BuildState.RUNNING)


def test_a_finished_build() -> None:
    record = recorded("completed")

    assert record.exporters == (RecordedExporter("image", {"name": "a:b"}),)
    assert record.frontend_attrs["label:k"] == "v"
    assert (record.cached_steps, record.completed_steps, record.total_steps) == (0, 6, 6)
    assert record.duration == 391_897_958
    assert record.logs is not None
    assert record.logs.media_type == "application/vnd.buildkit.status.v0"
    assert record.provenance[""].size == 8412
    assert record.failure is None


def test_a_failed_build() -> None:
    record = recorded("error")

    assert (record.error_code, record.provenance) == (2, {})
    assert record.error.endswith("did not complete successfully: exit code: 7")
    assert record.failure is not None
    assert record.failure.size == 4228


def test_cancelled_by_words() -> None:
    """Not every way to cancel leaves its code."""
    assert BuildRecord("r", completed=1, error="RUN x: context canceled", error_code=2).state == BuildState.CANCELED


def test_several_platforms() -> None:
    """Provenance is found among other attestations."""
    other = BlobDescriptor(media_type="application/vnd.in-toto+json", digest="sbom")
    wanted = BlobDescriptor(media_type="application/vnd.in-toto+json", digest="slsa", annotations=PROVENANCE)
    results = {"linux/amd64": BuildResultInfo(attestations=[other, wanted]), "linux/arm64": BuildResultInfo()}

    record = build_record(BuildHistoryRecord(ref="r", results=results))

    assert record.provenance == {"linux/amd64": BlobReference(wanted.media_type, "slsa", 0, PROVENANCE)}
    assert list(record.attestations) == ["linux/amd64"]


def test_build_arguments_are_not_shown() -> None:
    """People put secrets there."""
    assert "hunter2" not in repr(BuildRecord("r", frontend_attrs={"build-arg:TOKEN": "hunter2"}))


def test_a_clock_that_went_back() -> None:
    assert BuildRecord("r", created=2, completed=1).duration == 0
