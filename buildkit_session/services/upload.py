"""``moby.upload.v1.Upload``: the daemon fetches a stream of bytes, such as an archive that is the build's context.

The build names it by a URL like that of any archive on the web, and the daemon pulls what has the host
``buildkit-session`` over the session.

A daemon takes for a Dockerfile what is no archive to it, and decides that by the first 1024 bytes: they must hold an
entry. The headers that extend an entry, for long names or exact times, push the entry itself out of reach; Python's
``tarfile`` begins with them by default. So such an archive gets a header of its own in front, an empty one of the kind
that concerns the archive as a whole, ``g``, which every daemon passes over.

Source: moby/buildkit:session/upload/upload.go, source/http/transport.go, frontend/dockerui/context.go (isArchive).
Seen with Docker 20.10 and 28.5.
"""

from __future__ import annotations

import secrets
import tarfile
from contextlib import aclosing
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import RpcError
from buildkit_session.grpc.router import Codecs, Route, of_metadata
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.filesync.v1 import BytesMessage  # that of Upload has the same fields
from buildkit_session.services.pieces import PIECES
from buildkit_session.services.readers import chunks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.metadata import Metadata
    from buildkit_session.services.readers import AnyReader

__all__ = ["Upload"]

MAX_PIECE: Final = 3 * 1024 * 1024
"""Bytes of a message: daemons before Docker 26 take 4 MiB."""

_BLOCK: Final = tarfile.BLOCKSIZE

# What a daemon gets to see as an entry at once; all other types come with more in front or behind.
_PLAIN_TYPES: Final = frozenset((b"\0", *(b"%d" % digit for digit in range(8)), b"g"))


class Upload:
    """Serves one stream, once, under an id that cannot be guessed.

    Args:
        source: the bytes, read when the daemon asks. What is no generator stays the caller's and is not closed.

    Attributes:
        url: what the build names the stream by, such as the ``remote`` of a build.
    """

    def __init__(self, source: AnyReader) -> None:
        self._id = secrets.token_hex(16)
        self._source: AnyReader | None = source
        self.url = f"http://buildkit-session/{self._id}"

    def __repr__(self) -> str:
        return f"<Upload {'pulled' if self._source is None else 'waiting'}>"

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        # Not the id, which is as good as the stream itself.
        return (Route("/moby.upload.v1.Upload/Pull", self._pull, _codecs, subject=of_metadata(lambda _: "context")),)

    async def _pull(self, call: IncomingCall[BytesMessage, BytesMessage]) -> None:
        """Send everything at once: the daemon neither sends a message nor ends its side."""
        name = (call.metadata.get("urlpath") or "").rpartition("/")[2]
        source = self._source
        if source is None or not compare_digest(name.encode("utf-8", "surrogateescape"), self._id.encode()):
            raise RpcError(Status.NOT_FOUND, "nothing to upload under this id: each can be pulled once")
        self._source = None
        async with aclosing(chunks(source)) as pieces, aclosing(_recognisable(pieces)) as sent:
            async for piece in sent:
                for start in range(0, len(piece), MAX_PIECE):
                    await call.send(BytesMessage(data=piece[start : start + MAX_PIECE]))


def _codecs(_metadata: Metadata) -> Codecs:
    return Codecs(PIECES, PIECES)


async def _recognisable(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The pieces, after a header if they need one to be taken for an archive."""
    head = b""
    async for piece in pieces:
        head += piece
        if len(head) >= _BLOCK:
            break
    if _is_extended_archive(head[:_BLOCK]):
        yield _GLOBAL_HEADER
    if head:
        yield head
    async for piece in pieces:
        yield piece


def _is_extended_archive(block: bytes) -> bool:
    """Whether an archive begins with ``block`` that a daemon would not take for one. An archive may be empty."""
    if len(block) < _BLOCK:
        return False
    if not any(block):
        return True
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return header.type not in _PLAIN_TYPES


def _global_header() -> bytes:
    header = tarfile.TarInfo("pax_global_header")
    header.type = tarfile.XGLTYPE
    return header.tobuf(tarfile.USTAR_FORMAT)


_GLOBAL_HEADER: Final = _global_header()
