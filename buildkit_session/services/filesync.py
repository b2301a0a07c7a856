"""``moby.filesync.v1.FileSync``: the daemon reads directories that the caller shares.

Source: moby/buildkit:session/filesync/filesync.go, filesync.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from buildkit_session.errors import InputError, RpcError
from buildkit_session.fsutil.odd_names import OddNames
from buildkit_session.fsutil.sender import send_tree
from buildkit_session.fsutil.walk import Filter
from buildkit_session.fsutil.wire import PACKETS
from buildkit_session.grpc.router import Codecs, Route, of_metadata
from buildkit_session.grpc.status import Status
from buildkit_session.truth import TRUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildkit_session.errors import TransferError
    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.metadata import Metadata
    from buildkit_session.messages.fsutil.types import Packet

__all__ = ["RESERVED", "FileSync"]

RESERVED: Final = ".fsutil-metadata"
"""The entry of the root that a metadata-only transfer must not have.

Its receiver writes a file of this name itself, so it skips the entry, and does not count it either: from there on it
asks for each file by the number of the entry before, and takes what comes for the file's content.

Nothing in a request tells such a transfer from an ordinary one, which takes the entry like any other. The definition of
the build does, by an attribute of the source (BuildKit 0.21 and newer), so who writes it has to say so here. A
Dockerfile cannot ask for it; a frontend of another kind can, and nobody on this side would know.

Source: tonistiigi/fsutil:receive.go (metadataPath); moby/buildkit:client/llb/source.go (MetadataOnlyTransfer).
"""


class FileSync:
    """Shares directories under names; the names are all a daemon can ask for.

    Args:
        directories: an open directory descriptor for each name, such as ``context`` and ``dockerfile``. They stay
            the caller's and must stay open while the session lives.
        metadata_only: names that the build asks for with ``local.metadatatransfer``, see :data:`RESERVED`.
    """

    def __init__(self, directories: Mapping[str, int], *, metadata_only: Iterable[str] = ()) -> None:
        self._directories = dict(directories)
        self._metadata_only = frozenset(metadata_only)
        self._odd_names = OddNames()

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        subject = of_metadata(lambda metadata: metadata.get("dir-name") or "")
        return (
            Route("/moby.filesync.v1.FileSync/DiffCopy", self._diff_copy, _packets, subject=subject),
            Route("/moby.filesync.v1.FileSync/TarStream", _tar_stream, _packets, subject=subject),
        )

    def explain(self, complaint: str) -> TransferError | None:
        """Say what a daemon means that ended a build with ``complaint``, if it means something that was shared."""
        return self._odd_names.explain(complaint)

    async def _diff_copy(self, call: IncomingCall[Packet, Packet]) -> None:
        name = call.metadata.get("dir-name") or ""
        root_fd = self._directories.get(name)
        if root_fd is None:
            raise RpcError(Status.NOT_FOUND, f'no access allowed to dir "{name}"')
        reserved = (RESERVED,) if name in self._metadata_only else ()
        try:
            with self._odd_names.transfer() as see:
                await send_tree(call, root_fd, _filter(call.metadata, exclude=reserved), see)
        except InputError as error:
            raise RpcError(Status.INVALID_ARGUMENT, str(error)) from error


def _packets(_metadata: Metadata) -> Codecs:
    return Codecs(PACKETS, PACKETS)


async def _tar_stream(_call: IncomingCall[Packet, Packet]) -> None:
    """Advertised by every client and called by no daemon."""
    raise RpcError(Status.UNIMPLEMENTED, "TarStream is not served; use DiffCopy")


def _filter(metadata: Metadata, *, exclude: tuple[str, ...]) -> Filter:
    return Filter(
        include=_values(metadata, "include-patterns"),
        exclude=_values(metadata, "exclude-patterns") + exclude,
        follow=_values(metadata, "followpaths"),
    )


def _values(metadata: Metadata, key: str) -> tuple[str, ...]:
    """All values of a key; form-urlencoded where ``<key>-encoded`` says so, which BuildKit does from 0.12 on."""
    values = tuple(metadata.get_all(key))
    if metadata.get(f"{key}-encoded") in TRUE:
        return tuple(unquote_plus(value, errors="surrogateescape") for value in values)
    return values
