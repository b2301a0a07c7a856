"""``moby.filesync.v1.FileSync``: the daemon reads directories that the caller shares.

Source: moby/buildkit:session/filesync/filesync.go, filesync.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from buildkit_session.errors import InputError, RpcError
from buildkit_session.fsutil.sender import send_tree
from buildkit_session.fsutil.walk import Filter
from buildkit_session.grpc.router import Route, messages
from buildkit_session.grpc.status import Status
from buildkit_session.messages.fsutil.types import Packet
from buildkit_session.truth import TRUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildkit_session.grpc.call import Call
    from buildkit_session.grpc.metadata import Metadata

__all__ = ["FileSync"]


class FileSync:
    """Shares directories under names; the names are all a daemon can ask for.

    Args:
        directories: an open directory descriptor for each name, such as ``context`` and ``dockerfile``. They stay
            the caller's and must stay open while the session lives.
    """

    def __init__(self, directories: Mapping[str, int]) -> None:
        self._directories = dict(directories)

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        packets = messages(Packet, Packet)
        return (
            Route("/moby.filesync.v1.FileSync/DiffCopy", self._diff_copy, packets),
            Route("/moby.filesync.v1.FileSync/TarStream", _tar_stream, packets),
        )

    async def _diff_copy(self, call: Call[Packet, Packet]) -> None:
        name = call.metadata.get("dir-name") or ""
        root_fd = self._directories.get(name)
        if root_fd is None:
            raise RpcError(Status.NOT_FOUND, f'no access allowed to dir "{name}"')
        try:
            await send_tree(call, root_fd, _filter(call.metadata))
        except InputError as error:
            raise RpcError(Status.INVALID_ARGUMENT, str(error)) from error


async def _tar_stream(_call: Call[Packet, Packet]) -> None:
    """Advertised by every client and called by no daemon."""
    raise RpcError(Status.UNIMPLEMENTED, "TarStream is not served; use DiffCopy")


def _filter(metadata: Metadata) -> Filter:
    return Filter(
        include=_values(metadata, "include-patterns"),
        exclude=_values(metadata, "exclude-patterns"),
        follow=_values(metadata, "followpaths"),
    )


def _values(metadata: Metadata, key: str) -> tuple[str, ...]:
    """All values of a key; form-urlencoded where ``<key>-encoded`` says so, which BuildKit does from 0.12 on."""
    values = tuple(metadata.get_all(key))
    if metadata.get(f"{key}-encoded") in TRUE:
        return tuple(unquote_plus(value, errors="surrogateescape") for value in values)
    return values
