"""``moby.filesync.v1.FileSend``: the daemon writes the results of a build where the caller wants them.

One method carries two protocols. ``tar`` sends one file as ``BytesMessage``, ``local`` sends a directory as ``Packet``;
which of them is decided by the exporter the caller asked for, whose index the stream's metadata names. So the codec is
selected for every stream (see :meth:`FileSend.select`).

Source: moby/buildkit:session/filesync/filesync.go (fsSyncTarget), filesync.proto.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol

from buildkit_session.errors import RpcError
from buildkit_session.grpc.router import Codecs, Route, of_metadata
from buildkit_session.grpc.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.metadata import Metadata

__all__ = ["EXPORTER_ID", "FileSend", "Target"]

EXPORTER_ID: Final = "buildkit-attachable-exporter-id"

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}")


class Target(Protocol):
    """Where one exporter's result goes."""

    @property
    def codecs(self) -> Codecs:
        """What its streams carry."""
        ...

    async def receive(self, call: IncomingCall[Any, Any], /) -> None:
        """Take one stream. There may be several at once: one for each platform."""
        ...


class FileSend:
    """Hands each stream to the target of its exporter.

    Args:
        targets: by the index of the exporter in the build request; may grow while serving.
    """

    def __init__(self, targets: Mapping[int, Target]) -> None:
        self._targets = targets

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        # The daemon resets the stream right after its last packet, so a reset must not overtake that packet.
        subject = of_metadata(lambda metadata: metadata.get(EXPORTER_ID) or "0")
        path = "/moby.filesync.v1.FileSend/DiffCopy"
        return (Route(path, self._diff_copy, self.select, ends_itself=True, subject=subject),)

    def select(self, metadata: Metadata) -> Codecs:
        """The codecs of a stream, by the exporter it belongs to."""
        return self._target(metadata).codecs

    async def _diff_copy(self, call: IncomingCall[Any, Any]) -> None:
        await self._target(call.metadata).receive(call)

    def _target(self, metadata: Metadata) -> Target:
        # Daemons before BuildKit 0.13 have one exporter and name none; what is no number counts as none upstream.
        value = metadata.get(EXPORTER_ID) or ""
        number = int(value) if _NUMBER.fullmatch(value) else 0
        if (target := self._targets.get(number)) is None:
            raise RpcError(Status.UNKNOWN, f"exporter {number} not found")
        return target
