"""How a build came about, as the daemon has recorded it: SLSA provenance, from its history.

Every daemon with a history records one, whatever was exported.

Source: docker/buildx:build/provenance.go (getProvenance, lookupProvenance, encodeProvenance).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import anyio

from buildkit_session.engine.history_values import build_record
from buildkit_session.errors import RemoteProtocolError, RpcError, UnsupportedError
from buildkit_session.grpc.codec import MessageCodec
from buildkit_session.grpc.status import Status
from buildkit_session.messages.containerd.services.content.v1 import ReadContentRequest, ReadContentResponse
from buildkit_session.messages.moby.buildkit import v1

if TYPE_CHECKING:
    from buildkit_session.engine.daemon import Link
    from buildkit_session.engine.history_values import BlobReference, BuildRecord

__all__ = ["read_provenance"]

MAX_BLOB: Final = 64 * 1024 * 1024
"""Bytes of a statement that are read; one of a thousand steps has a few megabytes."""

MAX_PLATFORMS: Final = 64
"""Statements that are read of one build; there are not half as many platforms that BuildKit knows."""

PATIENCE: Final = 60.0
"""Seconds for one statement."""

TRIES: Final = 10
PAUSE: Final = 0.1
"""Looks at the record, and seconds between them: it is complete some moments after the build."""


async def read_provenance(link: Link, ref: str) -> dict[str, dict[str, Any]]:
    """Return the predicate of each platform's provenance; under ``""`` that of a build for one.

    Args:
        link: to the daemon that has run the build.
        ref: the build.

    Raises:
        UnsupportedError: the daemon keeps no history.
        RpcError, ConnectionClosed: it does not answer.
        RemoteProtocolError: what it has recorded is no such statement.
    """
    for _ in range(TRIES):
        record = await _record(link, ref)
        if record is not None and record.provenance:
            if len(record.provenance) > MAX_PLATFORMS:
                raise RemoteProtocolError(f"the daemon's record of the build names more than {MAX_PLATFORMS} platforms")
            return {platform: await _predicate(link, blob) for platform, blob in record.provenance.items()}
        await anyio.sleep(PAUSE)
    return {}


async def _record(link: Link, ref: str) -> BuildRecord | None:
    """Find the record among all of them: asked for one alone, BuildKit 0.20 to 0.28 may crash (moby/buildkit#6598)."""
    found: BuildRecord | None = None
    try:
        async with link.control.listen_build_history(v1.BuildHistoryRequest(early_exit=True)) as call:
            while (event := await call.recv()) is not None:
                if event.record is not None and event.record.ref == ref:
                    found = build_record(event.record)
    except RpcError as error:
        if error.code != Status.UNIMPLEMENTED:
            raise
        raise UnsupportedError(feature="build history", needs="BuildKit 0.11 (Docker 24.0)") from error
    return found


async def _predicate(link: Link, blob: BlobReference) -> dict[str, Any]:
    data = bytearray()
    call = link.channel.call(
        "/containerd.services.content.v1.Content/Read",
        request=MessageCodec(ReadContentRequest),
        response=MessageCodec(ReadContentResponse),
        timeout=PATIENCE,
    )
    async with call as reading:
        await reading.send(ReadContentRequest(digest=blob.digest))
        reading.end()
        while (part := await reading.recv()) is not None:
            data += part.data
            if len(data) > MAX_BLOB:
                raise RemoteProtocolError(f"the daemon's record of the build has more than {MAX_BLOB} bytes")
    try:
        predicate = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError("the daemon's record of the build is not JSON") from error
    if not isinstance(predicate, dict):
        raise RemoteProtocolError("the daemon's record of the build holds no provenance")
    return predicate
