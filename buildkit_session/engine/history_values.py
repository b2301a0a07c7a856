"""Builds that a daemon remembers, as values.

Source: moby/buildkit:api/services/control/control.proto (BuildHistoryRecord);
docker/buildx:commands/history/inspect.go (runInspect), build/provenance.go (lookupProvenance).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from buildkit_session.engine.faults import shortened
from buildkit_session.engine.timestamps import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.messages.moby.buildkit import v1 as wire

__all__ = ["BlobReference", "BuildRecord", "BuildState", "RecordedExporter", "build_record"]

_CANCELLED: Final = 1  # gRPC's CANCELLED
_CANCELLED_WORDS: Final = "context canceled"  # a cancelled build may have code 2, and only these words at the end

_IN_TOTO: Final = "application/vnd.in-toto+json"
_PREDICATE: Final = "in-toto.io/predicate-type"
_PROVENANCE: Final = "https://slsa.dev/provenance/"


class BuildState(StrEnum):
    """How far a build has come; the values are those of the filter ``status=``."""

    RUNNING = "running"
    COMPLETED = "completed"
    ERROR = "error"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class BlobReference:
    """Something in the content store of the daemon, which can be read there by its digest.

    Attributes:
        media_type: such as ``application/vnd.buildkit.status.v0``.
        digest: ``sha256:...``.
        size: in bytes, as the daemon says.
        annotations: such as ``in-toto.io/predicate-type``.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordedExporter:
    """Where a result went: the type of an exporter and its attributes."""

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One build, running or finished. Times are nanoseconds since the Unix epoch, on the daemon's clock.

    Attributes:
        ref: the id of the build.
        frontend: such as ``dockerfile.v0``; empty for builds that a client led itself, as buildx does.
        frontend_attrs: options of the frontend, build arguments among them; not shown by ``repr``.
        exporters: where the result went.
        created: when it began.
        completed: when it ended, or ``None`` while it runs.
        error: why it failed, or ``""``.
        error_code: the gRPC status code of ``error``; 0 without one.
        cached_steps: how many steps were taken from the cache.
        completed_steps: how many have ended.
        total_steps: how many there are; it grows while the build runs.
        warnings: how many there were.
        pinned: whether the record is kept when others are forgotten.
        generation: grows each time the record changes.
        response: of the exporters and the frontend.
        logs: the recorded progress.
        trace: how long everything took, in OpenTelemetry's JSON.
        failure: the whole error, a serialized ``google.rpc.Status`` with its details.
        attestations: by platform; under ``""`` those of a build for one.
    """

    ref: str
    frontend: str = ""
    frontend_attrs: Mapping[str, str] = field(default_factory=dict, repr=False)
    exporters: tuple[RecordedExporter, ...] = ()
    created: int | None = None
    completed: int | None = None
    error: str = ""
    error_code: int = 0
    cached_steps: int = 0
    completed_steps: int = 0
    total_steps: int = 0
    warnings: int = 0
    pinned: bool = False
    generation: int = 0
    response: Mapping[str, str] = field(default_factory=dict)
    logs: BlobReference | None = None
    trace: BlobReference | None = None
    failure: BlobReference | None = None
    attestations: Mapping[str, tuple[BlobReference, ...]] = field(default_factory=dict)

    @property
    def state(self) -> BuildState:
        """How far the build has come."""
        if self.completed is None:
            return BuildState.RUNNING
        if not self.error and not self.error_code:
            return BuildState.COMPLETED
        if self.error_code == _CANCELLED or self.error.endswith(_CANCELLED_WORDS):
            return BuildState.CANCELED
        return BuildState.ERROR

    @property
    def duration(self) -> int | None:
        """Nanoseconds from beginning to end, or ``None`` while the build runs."""
        if self.created is None or self.completed is None:
            return None
        return max(self.completed - self.created, 0)

    @property
    def provenance(self) -> Mapping[str, BlobReference]:
        """The first SLSA provenance of each platform, whatever its version."""
        found = {platform: list(filter(_is_provenance, blobs)) for platform, blobs in self.attestations.items()}
        return {platform: blobs[0] for platform, blobs in found.items() if blobs}


def build_record(record: wire.BuildHistoryRecord) -> BuildRecord:
    """Make a value out of what the daemon sent."""
    error = record.error
    return BuildRecord(
        ref=record.ref,
        frontend=record.frontend,
        frontend_attrs=record.frontend_attrs,
        exporters=tuple(RecordedExporter(exporter.type, exporter.attrs) for exporter in record.exporters),
        created=nanoseconds(record.created_at),
        completed=nanoseconds(record.completed_at),
        error=shortened(error.message) if error else "",
        error_code=error.code if error else 0,
        cached_steps=record.num_cached_steps,
        completed_steps=record.num_completed_steps,
        total_steps=record.num_total_steps,
        warnings=record.num_warnings,
        pinned=record.pinned,
        generation=record.generation,
        response=record.exporter_response,
        logs=_blob(record.logs),
        trace=_blob(record.trace),
        failure=_blob(record.external_error),
        attestations=_attestations(record),
    )


def _attestations(record: wire.BuildHistoryRecord) -> dict[str, tuple[BlobReference, ...]]:
    results = {"": record.result, **record.results} if record.result else record.results
    found = {platform: tuple(map(_reference, result.attestations)) for platform, result in results.items()}
    return {platform: blobs for platform, blobs in found.items() if blobs}


def _is_provenance(blob: BlobReference) -> bool:
    return blob.media_type == _IN_TOTO and blob.annotations.get(_PREDICATE, "").startswith(_PROVENANCE)


def _blob(descriptor: wire.BlobDescriptor | None) -> BlobReference | None:
    return None if descriptor is None else _reference(descriptor)


def _reference(descriptor: wire.BlobDescriptor) -> BlobReference:
    return BlobReference(descriptor.media_type, descriptor.digest, descriptor.size, descriptor.annotations)
