"""``moby.exporter.v1.Exporter``: the daemon asks, with a result at hand, what else to export, and reports what it has.

It asks once, before anything is exported; from BuildKit 0.32 on it also reports, once, when all of it is.
``UNAVAILABLE`` and ``UNIMPLEMENTED`` would mean to it that nothing is wanted, so no failure here ends a call with them.

Source: moby/buildkit:session/exporter/exporter.proto, solver/llbsolver/export.go (getSessionExporters,
finalizeSessionExport).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from buildkit_session.errors import RpcError
from buildkit_session.grpc.router import Route, messages, unary
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.exporter.v1 import (
    ExporterRequest,
    FinalizeExportRequest,
    FinalizeExportResponse,
    FindExportersRequest,
    FindExportersResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["ExportRequest", "Exporter", "ExporterChoice"]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What the daemon tells of a result before it exports it.

    Attributes:
        metadata: such as ``containerimage.config``, the JSON of an image's config, and ``refs.platforms``; of a build
            for several platforms the names end in the platform: ``containerimage.config/linux/arm64``.
        refs: the daemon's names for the trees of the result, those of attestations too; an empty tree has none.
    """

    metadata: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    refs: tuple[str, ...] = ()


class ExporterChoice(Protocol):
    """Who chooses exporters."""

    async def find(self, request: ExportRequest, /) -> Sequence[tuple[str, Mapping[str, str]]]:
        """Choose: the type and the attributes of each exporter. Called once at most."""
        ...

    async def finalize(self, response: Mapping[str, str], /) -> None:
        """Take what all exporters have reported. Called once at most, after :meth:`find` has ended."""
        ...


class Exporter:
    """Serves the choice of exporters.

    Args:
        choice: who chooses.
    """

    def __init__(self, choice: ExporterChoice) -> None:
        self._choice = choice
        self._asked = self._found = self._told = False

    def __repr__(self) -> str:
        return f"<Exporter asked={self._asked} told={self._told}>"

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        path = "/moby.exporter.v1.Exporter"
        find, finalize = unary(self._find_exporters), unary(self._finalize_export)
        return (
            Route(f"{path}/FindExporters", find, messages(FindExportersRequest, FindExportersResponse)),
            Route(f"{path}/FinalizeExport", finalize, messages(FinalizeExportRequest, FinalizeExportResponse)),
        )

    async def _find_exporters(self, request: FindExportersRequest) -> FindExportersResponse:
        if self._asked:
            raise RpcError(Status.FAILED_PRECONDITION, "the exporters of a session are found once")
        self._asked = True
        chosen = await self._choice.find(ExportRequest(dict(request.metadata), tuple(request.refs)))
        self._found = True
        return FindExportersResponse(exporters=[ExporterRequest(kind, dict(attrs)) for kind, attrs in chosen])

    async def _finalize_export(self, request: FinalizeExportRequest) -> FinalizeExportResponse:
        if not self._found or self._told:
            when = "again" if self._told else "before its exporters are found"
            raise RpcError(Status.FAILED_PRECONDITION, f"an export is not finalized {when}")
        self._told = True
        await self._choice.finalize(dict(request.exporter_response))
        return FinalizeExportResponse()
