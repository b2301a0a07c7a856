"""One stream, pulled once, by its id."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from calls import ScriptedCall, serve
from tricky_cases import tricky

from buildkit_session.errors import RpcError, TransferError
from buildkit_session.grpc.status import Status
from buildkit_session.services.upload import MAX_PIECE, Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


def pull(path: str) -> ScriptedCall:
    """The daemon sends no message and does not end its side."""
    metadata = [(b"urlpath", path.encode()), (b"urlhost", b"buildkit-session")]
    return ScriptedCall(metadata=metadata, stalled=True)


async def pulled(source: Any) -> list[bytes]:
    upload = Upload(source)
    call = pull(upload.url.removeprefix("http://buildkit-session"))
    return [bytes(message.data) for message in await serve(upload, "Pull", call)]


@tricky(38)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, MAX_PIECE, MAX_PIECE + 1, 3 * MAX_PIECE])
async def test_what_is_uploaded(size: int) -> None:
    """At once, in messages that every daemon takes."""
    data = os.urandom(size)
    pieces = await pulled([data])
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= MAX_PIECE for piece in pieces)


async def test_it_is_pulled_once() -> None:
    """FX-12."""
    upload = Upload(b"data")
    path = upload.url.removeprefix("http://buildkit-session")
    await serve(upload, "Pull", pull(path))
    with pytest.raises(RpcError) as caught:
        await serve(upload, "Pull", pull(path))
    assert caught.value.code == Status.NOT_FOUND


@pytest.mark.parametrize("path", ["", "/", "/0", "/\u00e9", "/{}/", "/{}0", "/{} "])
async def test_other_ids(path: str) -> None:
    """FX-12: and the stream is still there for who knows its id."""
    upload = Upload(b"data")
    name = upload.url.rpartition("/")[2]
    with pytest.raises(RpcError) as caught:
        await serve(upload, "Pull", pull(path.format(name)))
    assert caught.value.code == Status.NOT_FOUND
    assert name not in caught.value.message
    assert await serve(upload, "Pull", pull(f"/{name}"))


def test_ids_differ_and_are_not_shown() -> None:
    upload = Upload(b"")
    assert upload.url != Upload(b"").url
    assert upload.url.rpartition("/")[2] not in repr(upload)


@tricky(38)
async def test_a_source_that_fails_fails_the_call() -> None:
    """Else what came before would pass for all of it."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"FROM scratch\n"
        raise OSError(5, "Input/output error")

    with pytest.raises(TransferError, match="Input/output error"):
        await pulled(failing())


def archive(kind: int, name: str = "Dockerfile", mtime: float = 0) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        entry = tarfile.TarInfo(name)
        entry.mtime = mtime
        tar.addfile(entry)
    return file.getvalue()


EXTENDED = {
    "pax time": archive(tarfile.PAX_FORMAT, mtime=1.5),
    "pax name": archive(tarfile.PAX_FORMAT, "\u00e9"),
    "gnu name": archive(tarfile.GNU_FORMAT, "x" * 200),
    "nothing": archive(tarfile.PAX_FORMAT)[-1024:],
}
AS_IT_IS = {
    "ustar": archive(tarfile.USTAR_FORMAT),
    "pax": archive(tarfile.PAX_FORMAT),
    "gnu": archive(tarfile.GNU_FORMAT),
    "text": b"FROM scratch\n" * 100,
    "zeros": bytes(511),
    "damaged": archive(tarfile.PAX_FORMAT, "\u00e9").replace(b"PaxHeader", b"PaxHeadex"),
}


@pytest.mark.parametrize("cut", [1, 511, 512, 10_000])
@pytest.mark.parametrize("name", EXTENDED)
async def test_an_archive_that_begins_with_an_extension_gets_a_header(name: str, cut: int) -> None:
    """However it is cut into pieces; and it holds the same entries."""
    data = EXTENDED[name]
    sent = b"".join(await pulled([data[:cut], data[cut:]]))
    assert sent[512:] == data
    assert sent[156:157] == tarfile.XGLTYPE
    assert name == "nothing" or names(sent) == names(data)


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


@pytest.mark.parametrize("name", AS_IT_IS)
async def test_all_else_is_sent_as_it_is(name: str) -> None:
    assert b"".join(await pulled(AS_IT_IS[name])) == AS_IT_IS[name]
