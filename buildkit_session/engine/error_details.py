"""What BuildKit says about an error beside its text: where in the Dockerfile, which step, which exit code.

The values are JSON, not protobuf. Their order at a client is from the inside out: the cause comes first.

The daemon is not trusted: nothing here raises, what has another shape than expected is kept as it came, and sizes are
bounded.

Source: moby/buildkit:util/grpcerrors/grpcerrors.go (ToGRPC, FromGRPC), solver/errdefs/errdefs.proto,
frontend/gateway/pb/gateway.proto (ExitMessage), sourcepolicy/policysession/denyerror.go.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from buildkit_session.engine.faults import shortened
from buildkit_session.engine.json_values import Json, as_list, as_number, as_object, as_text
from buildkit_session.engine.source_json import read_ranges, read_source
from buildkit_session.grpc.details import Detail, read_details
from buildkit_session.source import SourceExcerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "CapabilityMissing",
    "ErrorDetail",
    "FailedFrontend",
    "FailedSolve",
    "FailedVertex",
    "ProcessExit",
    "RequestUnknown",
    "SourceDenied",
    "error_details",
]

MAX_DENIALS: Final = 32
"""Messages of a denial that are kept; those of this side are no more."""

MAX_JSON: Final = 8 * 1024 * 1024
"""Bytes of one value that is interpreted: a Dockerfile of 2 MiB, the largest that buildx fetches, with room."""

PREFIX: Final = "github.com/moby/buildkit/"


@dataclass(frozen=True, slots=True)
class FailedVertex:
    """The step of the build graph that failed, by its digest."""

    digest: str


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """A process of the build ended by itself, with this exit code."""

    code: int


@dataclass(frozen=True, slots=True)
class FailedFrontend:
    """A frontend the error passed through.

    Attributes:
        name: such as ``dockerfile.v0`` or ``gateway.v0``.
        source: the image of the frontend, for ``gateway.v0``.
    """

    name: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class CapabilityMissing:
    """The frontend lacks a capability that was asked for, such as ``moby.buildkit.frontend.contexts``."""

    name: str


@dataclass(frozen=True, slots=True)
class RequestUnknown:
    """The frontend does not know a subrequest, such as ``frontend.outline``."""

    name: str


@dataclass(frozen=True, slots=True)
class SourceDenied:
    """A policy of this session has refused a source, and said why."""

    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FailedSolve:
    """The state in which an operation failed; filled by ``LLBBridge.Solve`` and ``Evaluate`` alone.

    Attributes:
        input_ids: results that the operation read, by their id.
        mount_ids: its mounts as they were when it failed.
        op: the operation, as the JSON form of ``pb.Op``.
        file_action: which action of a file operation failed.
        cache_input: which input's checksum could not be computed.
        description: of the step, such as ``llb.customname``.
    """

    input_ids: tuple[str, ...] = ()
    mount_ids: tuple[str, ...] = ()
    op: Json = field(default_factory=dict)
    file_action: int | None = None
    cache_input: int | None = None
    description: Json = field(default_factory=dict)


ErrorDetail: TypeAlias = (
    SourceExcerpt
    | FailedVertex
    | ProcessExit
    | FailedFrontend
    | CapabilityMissing
    | RequestUnknown
    | FailedSolve
    | SourceDenied
    | Detail
)


def error_details(status: bytes) -> tuple[ErrorDetail, ...]:
    """Interpret the details of a serialized ``google.rpc.Status``.

    Returns:
        One value for each detail, the cause first. Stack traces of the daemon are left out; details of an unknown
        type or shape are kept as :class:`.Detail`.
    """
    return tuple(_interpreted(detail) for detail in read_details(status) if detail.type_url != _STACK)


def _interpreted(detail: Detail) -> ErrorDetail:
    read = _READERS.get(detail.type_url)
    if read is None or len(detail.value) > MAX_JSON:
        return detail
    try:
        return read(as_object(json.loads(detail.value)))
    except (ValueError, TypeError, RecursionError):
        return detail


def _source(value: Json) -> SourceExcerpt:
    info = value.get("info")
    # Without a file there is nothing to show: nor does BuildKit.
    return SourceExcerpt(read_source(info), read_ranges(value.get("ranges")) if info else ())


def _solve(value: Json) -> FailedSolve:
    return FailedSolve(
        input_ids=tuple(map(as_text, as_list(value.get("inputIDs")))),
        mount_ids=tuple(map(as_text, as_list(value.get("mountIDs")))),
        op=as_object(value.get("op")),
        file_action=_index(value.get("file")),
        cache_input=_index(value.get("cache")),
        description=as_object(value.get("description")),
    )


def _index(value: object) -> int | None:
    return None if value is None else as_number(as_object(value).get("index"))


def _denied(value: Json) -> SourceDenied:
    said = as_list(value.get("denyMessages"))[:MAX_DENIALS]
    return SourceDenied(tuple(shortened(as_text(as_object(one).get("message"))) for one in said))


def _named(value: Json) -> str:
    return as_text(value.get("name"))


_STACK: Final = f"{PREFIX}stack.Stack+json"

_READERS: Final[Mapping[str, Callable[[Json], ErrorDetail]]] = {
    f"{PREFIX}errdefs.Source+json": _source,
    f"{PREFIX}errdefs.Vertex+json": lambda value: FailedVertex(as_text(value.get("digest"))),
    f"{PREFIX}errdefs.Solve+json": _solve,
    f"{PREFIX}errdefs.Frontend+json": lambda value: FailedFrontend(_named(value), as_text(value.get("source"))),
    f"{PREFIX}errdefs.FrontendCap+json": lambda value: CapabilityMissing(_named(value)),
    f"{PREFIX}errdefs.Subrequest+json": lambda value: RequestUnknown(_named(value)),
    f"{PREFIX}policysession.DecisionResponse+json": _denied,
    f"{PREFIX}gatewayapi.ExitMessage+json": lambda value: ProcessExit(as_number(value.get("Code"))),
}
