"""``containerd.services.content.v1.Content``: the daemon reads and writes blobs of OCI image layouts on this side.

One service has any number of stores; every call names one, by an id that both sides make of the build's own options:
``local:<directory>`` for a local cache, spelled as in the option, ``oci:<key>`` for a layout that is a build context,
``export`` for an image that is exported as a directory.

Served are the methods that a build uses, Info, Read and Write, and those that make sense of a blob that was cut off:
Status, ListStatuses and Abort. A Write goes on where the one before under the same ref has ended, which the answer to
its STAT tells; the digest is that of the whole. No daemon asks for List, Update or Delete, and layouts are the
caller's: they are not served.

What is read is checked against its digest, and what is written too, before it counts. That a layout's ``index.json``
names what was written is left to the client, once the build has succeeded:
:mod:`~buildkit_session.services.oci_index`.

Source: containerd/containerd:api/services/content/v1/content.proto, plugins/services/content/contentserver;
moby/buildkit:session/content/attachable.go, caller.go.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread

from buildkit_session.errors import QuotaExceeded, RpcError, TransferError
from buildkit_session.grpc.codec import MessageCodec
from buildkit_session.grpc.router import Codecs, Route, Subject, messages, of_metadata, unary
from buildkit_session.grpc.status import Status
from buildkit_session.grpc.varint import encode_varint
from buildkit_session.messages.containerd.services.content.v1 import (
    AbortRequest,
    Info,
    InfoRequest,
    InfoResponse,
    ListStatusesRequest,
    ListStatusesResponse,
    ReadContentRequest,
    ReadContentResponse,
    StatusRequest,
    StatusResponse,
    WriteAction,
    WriteContentRequest,
    WriteContentResponse,
)
from buildkit_session.messages.containerd.services.content.v1 import Status as IngestStatus
from buildkit_session.messages.google.protobuf import Empty
from buildkit_session.messages.nanotime import Timestamp
from buildkit_session.services import oci_ingests
from buildkit_session.services.digests import Digest
from buildkit_session.services.oci_layout import FULL, BlobExistsError, BlobMismatchError, RefLockedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from buildkit_session.grpc.envelope import Body, Buffer
    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.metadata import Metadata
    from buildkit_session.services.oci_ingests import Unfinished
    from buildkit_session.services.oci_layout import Ingest, OciLayout

__all__ = ["STORE_ID", "Content", "PartCodec"]

STORE_ID: Final = "buildkit-attachable-store-id"

CHUNK: Final = 1024 * 1024
"""Bytes of a blob in one message, as upstream sends them: daemons ask for windows of this size."""

MAX_REF: Final = 1024
"""Characters of a ref; daemons make them of a digest and a word."""


class Content:
    """Serves the blobs of layouts, and takes blobs for those that are writable.

    Args:
        stores: by id.
    """

    def __init__(self, stores: Mapping[str, OciLayout]) -> None:
        self._stores = dict(stores)

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        service = "/containerd.services.content.v1.Content"
        writes = messages(WriteContentRequest, WriteContentResponse)
        lists = messages(ListStatusesRequest, ListStatusesResponse)
        return (
            Route(f"{service}/Info", self._info, messages(InfoRequest, InfoResponse), subject=_SUBJECT),
            Route(f"{service}/Read", self._read, _read_codecs, subject=_SUBJECT),
            Route(f"{service}/Write", self._write, writes, subject=_WRITTEN),
            Route(f"{service}/Status", self._status, messages(StatusRequest, StatusResponse), subject=_REF),
            Route(f"{service}/ListStatuses", self._list_statuses, lists, subject=_STORE),
            Route(f"{service}/Abort", self._abort, messages(AbortRequest, Empty), subject=_REF),
        )

    async def _info(self, call: IncomingCall[InfoRequest, InfoResponse]) -> None:
        store = self._store(call.metadata)

        async def answer(request: InfoRequest) -> InfoResponse:
            return InfoResponse(info=await to_thread.run_sync(_info, store, _digest(request.digest)))

        await unary(answer)(call)

    async def _read(self, call: IncomingCall[ReadContentRequest, ReadContentResponse]) -> None:
        store = self._store(call.metadata)
        request = await call.recv()
        if request is None:
            raise RpcError(Status.INTERNAL, "Read needs a request")
        part, start, end = await to_thread.run_sync(_open_window, store, request)
        try:
            for offset in range(start, end, CHUNK):
                data = await to_thread.run_sync(part.read, offset, min(CHUNK, end - offset))
                await call.send(ReadContentResponse(offset=offset, data=data))
        finally:
            part.close()

    async def _write(self, call: IncomingCall[WriteContentRequest, WriteContentResponse]) -> None:
        """Take one blob: every request has one response, up to that for its last one."""
        store = self._writable_store(call.metadata)
        request = await call.recv()
        if request is None:
            raise RpcError(Status.INVALID_ARGUMENT, "the first message needs a ref")
        with _told():
            ingest = await to_thread.run_sync(store.ingest, _ref(request.ref))
        writer = _Writer(store, ingest)
        try:
            while request is not None:
                with _told():
                    response = await to_thread.run_sync(writer.take, request)
                await call.send(response)
                request = None if request.action == WriteAction.COMMIT else await call.recv()
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(writer.close)

    async def _status(self, call: IncomingCall[StatusRequest, StatusResponse]) -> None:
        store = self._writable_store(call.metadata)

        async def answer(request: StatusRequest) -> StatusResponse:
            found = await to_thread.run_sync(oci_ingests.find, store, _ref(request.ref))
            if found is None:
                raise RpcError(Status.NOT_FOUND, "nothing is being written under this ref")
            return StatusResponse(status=_ingest_status(found))

        await unary(answer)(call)

    async def _list_statuses(self, call: IncomingCall[ListStatusesRequest, ListStatusesResponse]) -> None:
        store = self._writable_store(call.metadata)

        async def answer(request: ListStatusesRequest) -> ListStatusesResponse:
            if any(request.filters):
                raise RpcError(Status.UNIMPLEMENTED, "filters are not supported")
            found = await to_thread.run_sync(oci_ingests.list_all, store)
            return ListStatusesResponse(statuses=[_ingest_status(one) for one in found])

        await unary(answer)(call)

    async def _abort(self, call: IncomingCall[AbortRequest, Empty]) -> None:
        store = self._writable_store(call.metadata)

        async def answer(request: AbortRequest) -> Empty:
            with _told():
                if not await to_thread.run_sync(oci_ingests.abort, store, _ref(request.ref)):
                    raise RpcError(Status.NOT_FOUND, "nothing is being written under this ref")
            return Empty()

        await unary(answer)(call)

    def _writable_store(self, metadata: Metadata) -> OciLayout:
        store = self._store(metadata)
        if not store.writable:
            raise RpcError(Status.PERMISSION_DENIED, "this store is for reading")
        return store

    def _store(self, metadata: Metadata) -> OciLayout:
        name = metadata.get(STORE_ID)
        if not name:
            raise RpcError(Status.INVALID_ARGUMENT, f"the metadata needs {STORE_ID}")
        if (store := self._stores.get(name)) is None:
            raise RpcError(Status.NOT_FOUND, "unknown store")
        return store


class PartCodec:
    """The :class:`~buildkit_session.grpc.codec.Codec` of parts of a blob: what is sent most is not copied."""

    def __init__(self) -> None:
        self._general = MessageCodec(ReadContentResponse)

    def encode(self, message: ReadContentResponse, /) -> Body:
        """See :class:`~buildkit_session.grpc.codec.Codec`."""
        if message._unknown_fields or not message.data or message.offset < 0:
            return self._general.encode(message)
        offset = b"\x08" + encode_varint(message.offset) if message.offset else b""
        return offset + b"\x12" + encode_varint(len(message.data)), message.data

    def decode(self, body: Buffer, /) -> ReadContentResponse:
        """See :class:`~buildkit_session.grpc.codec.Codec`."""
        return self._general.decode(body)


_READ_CODECS: Final = Codecs(MessageCodec(ReadContentRequest), PartCodec())


def _read_codecs(_metadata: Metadata) -> Codecs:
    return _READ_CODECS


def _blob(metadata: Metadata, name: str) -> str:
    """What a call is about, for interceptors."""
    return f"{metadata.get(STORE_ID, '')} {name}".strip()


_SUBJECT: Final = Subject(lambda metadata, request: _blob(metadata, request.digest), needs_request=True)
_REF: Final = Subject(lambda metadata, asked: _blob(metadata, asked.ref), needs_request=True)
_STORE: Final = of_metadata(lambda metadata: _blob(metadata, ""))
_WRITTEN: Final = Subject(
    lambda metadata, request: _blob(metadata, request.expected or request.ref), needs_request=True
)


class _Writer:
    """One blob on its way: what was announced of it, and what has come. Blocks."""

    def __init__(self, store: OciLayout, ingest: Ingest) -> None:
        self._store = store
        self._ingest = ingest
        self._total = 0
        self._expected: Digest | None = None

    def take(self, request: WriteContentRequest) -> WriteContentResponse:
        """Do what a request asks for."""
        self._note(request)
        match request.action:
            case WriteAction.STAT:
                pass
            case WriteAction.WRITE:
                self._add(request)
            case WriteAction.COMMIT:
                self._add(request)
                self._ingest.commit(self._total, self._expected)
            case unknown:
                raise RpcError(Status.INVALID_ARGUMENT, f"unknown action {int(unknown)}")
        return WriteContentResponse(
            action=request.action,
            started_at=_timestamp(self._ingest.started),
            updated_at=_timestamp(self._ingest.updated),
            offset=self._ingest.offset,
            total=self._total,
            digest=str(self._ingest.digest(self._algorithm)),
        )

    def close(self) -> None:
        """Let go of the blob; what came of it stays, if it is not whole."""
        self._ingest.close(self._total)

    @property
    def _algorithm(self) -> str:
        return self._expected.algorithm if self._expected else ""

    def _note(self, request: WriteContentRequest) -> None:
        """Remember what a request says of the whole blob; one that is there already is not wanted again."""
        if request.total < 0 or request.offset < 0:
            raise RpcError(Status.INVALID_ARGUMENT, "a size or an offset is negative")
        self._total = request.total or self._total
        if request.expected:
            self._expected = _digest(request.expected)
            # One of another size is damaged, and is replaced.
            if self._store.has(self._expected, self._total):
                self._ingest.discard()
                raise BlobExistsError
        if self._total and self._ingest.offset > self._total:
            self._ingest.restart()  # what was begun is no part of this

    def _add(self, request: WriteContentRequest) -> None:
        held = self._ingest.offset
        if request.offset not in (0, held):
            raise RpcError(Status.OUT_OF_RANGE, f"a write at {request.offset} must be at {held}, where the blob ends")
        if request.offset == 0 and held:
            self._ingest.restart()
        if self._total and request.offset + len(request.data) > self._total:
            self._ingest.discard()
            raise BlobMismatchError(f"the blob goes beyond the {self._total} bytes it was said to have")
        if request.data:
            self._ingest.write(request.data, self._algorithm)


@contextmanager
def _told() -> Iterator[None]:
    """Say what happened to a blob in the daemon's terms."""
    try:
        yield
    except BlobExistsError:
        raise RpcError(Status.ALREADY_EXISTS, "the blob exists") from None
    except BlobMismatchError as error:
        raise RpcError(Status.FAILED_PRECONDITION, str(error)) from None
    except RefLockedError:
        # The daemon tries again for ever, so this is for what passes, and for nothing else.
        raise RpcError(Status.UNAVAILABLE, "the ref is being written by another call") from None
    except QuotaExceeded as error:
        raise RpcError(Status.RESOURCE_EXHAUSTED, str(error)) from error
    except TransferError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
            raise RpcError(Status.RESOURCE_EXHAUSTED, "the client's disk is full") from error
        raise


def _digest(text: str) -> Digest:
    if (digest := Digest.parse(text)) is None:
        raise RpcError(Status.INVALID_ARGUMENT, "this is no digest of a known kind")
    return digest


def _ref(text: str) -> str:
    if not text:
        raise RpcError(Status.INVALID_ARGUMENT, "the first message needs a ref")
    if len(text) > MAX_REF:
        raise RpcError(Status.INVALID_ARGUMENT, f"the ref has {len(text)} characters, {MAX_REF} at most")
    return text


def _opened(store: OciLayout, digest: Digest) -> int:
    if (descriptor := store.open_blob(digest)) is None:
        raise RpcError(Status.NOT_FOUND, f"content {digest}: not found")
    return descriptor


def _info(store: OciLayout, digest: Digest) -> Info:
    descriptor = _opened(store, digest)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    written = _timestamp(found.st_mtime_ns)
    return Info(digest=str(digest), size=found.st_size, created_at=written, updated_at=written)


class _Blob:
    """An open blob. Blocks."""

    def __init__(self, store: OciLayout, digest: Digest, descriptor: int) -> None:
        self.size = os.fstat(descriptor).st_size
        self._store = store
        self._digest = digest
        self._descriptor = descriptor

    def read(self, offset: int, size: int) -> bytes:
        """Read a part, all of it."""
        data = os.pread(self._descriptor, size, offset)
        if len(data) < size:
            # Less would pass for the end.
            raise self._damaged("it has become shorter")
        if not self._store.reads.is_sound(self._digest, offset, data, self.size):
            raise self._damaged("its content has another digest")
        return data

    def close(self) -> None:
        os.close(self._descriptor)

    def _damaged(self, how: str) -> RpcError:
        error = RpcError(Status.DATA_LOSS, f"content {self._digest} is damaged: {how}")
        where = f"blob {self._digest} of the OCI layout {self._store.directory} is damaged"
        error.__cause__ = TransferError(f"{where}: {how}; fetch it again")
        return error


def _open_window(store: OciLayout, request: ReadContentRequest) -> tuple[_Blob, int, int]:
    """Open a blob; returns it, and where the part that was asked for starts and ends.

    A part may go beyond the end of the blob, and begin right there; no size means all of the rest.
    """
    digest = _digest(request.digest)
    blob = _Blob(store, digest, _opened(store, digest))
    start = max(request.offset, 0)
    if start > blob.size:
        blob.close()
        raise RpcError(Status.OUT_OF_RANGE, f"the blob has {blob.size} bytes")
    return blob, start, min(start + request.size, blob.size) if request.size > 0 else blob.size


def _ingest_status(found: Unfinished) -> IngestStatus:
    return IngestStatus(
        started_at=_timestamp(found.started),
        updated_at=_timestamp(found.updated),
        ref=found.ref,
        offset=found.offset,
        total=found.total,
    )


def _timestamp(nanoseconds: int) -> Timestamp:
    return Timestamp(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)
