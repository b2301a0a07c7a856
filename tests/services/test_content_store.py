"""Blobs of layouts, as the daemon reads and writes them."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from calls import RESET, ScriptedCall, serve
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.errors import RpcError, StreamReset, TransferError
from buildkit_session.grpc.status import Status
from buildkit_session.messages.containerd.services.content.v1 import (
    Info,
    InfoRequest,
    ReadContentRequest,
    ReadContentResponse,
    WriteAction,
    WriteContentRequest,
    WriteContentResponse,
)
from buildkit_session.services.content import CHUNK, Content, PartCodec
from buildkit_session.services.oci_layout import OciLayout

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

BLOB = os.urandom(2 * CHUNK + 1234)
STAT, WRITE, COMMIT = WriteAction.STAT, WriteAction.WRITE, WriteAction.COMMIT


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A layout with one blob."""
    file = blob_file(tmp_path, BLOB)
    file.parent.mkdir(parents=True)
    file.write_bytes(BLOB)
    return tmp_path


def blob_file(root: Path, data: bytes) -> Path:
    return root / "blobs" / "sha256" / hashlib.sha256(data).hexdigest()


@pytest.fixture
def service(root: Path) -> Content:
    return Content({"local:in": OciLayout(root), "local:out": OciLayout(root / "out", writable=True)})


async def call(service: Content, method: str, *requests: Any, store: str | None = "local:in") -> list[Any]:
    metadata = [(b"buildkit-attachable-store-id", store.encode())] if store is not None else []
    return await serve(service, method, ScriptedCall(*([request] for request in requests), metadata=metadata))


async def refused(service: Content, method: str, *requests: Any, store: str | None = "local:in") -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call(service, method, *requests, store=store)
    return caught.value


async def test_info(service: Content) -> None:
    (answer,) = await call(service, "Info", InfoRequest(digest=sha256(BLOB)))
    assert isinstance(answer.info, Info)
    assert (answer.info.digest, answer.info.size) == (sha256(BLOB), len(BLOB))


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (0, 0, BLOB),
        (0, len(BLOB), BLOB),
        (0, 512, BLOB[:512]),
        (CHUNK, CHUNK, BLOB[CHUNK : 2 * CHUNK]),
        (2 * CHUNK, CHUNK, BLOB[2 * CHUNK :]),
        (7, -1, BLOB[7:]),
        (-5, 10, BLOB[:10]),
        (len(BLOB) - 1, 2**62, BLOB[-1:]),
        (len(BLOB), 10, b""),
    ],
)
async def test_windows(service: Content, offset: int, size: int, expected: bytes) -> None:
    """FX-11: beyond the end too, and right at it."""
    request = ReadContentRequest(digest=sha256(BLOB), offset=offset, size=size)
    answers = await call(service, "Read", request)
    assert b"".join(answer.data for answer in answers) == expected
    assert all(0 < len(answer.data) <= CHUNK for answer in answers)


async def test_a_window_behind_the_end(service: Content) -> None:
    error = await refused(service, "Read", ReadContentRequest(digest=sha256(BLOB), offset=len(BLOB) + 1))
    assert error.code == Status.OUT_OF_RANGE


async def test_a_blob_that_becomes_shorter_is_not_taken_for_whole(root: Path, service: Content) -> None:
    class Shortens(ScriptedCall):
        async def send(self, message: Any) -> None:
            await super().send(message)
            os.truncate(blob_file(root, BLOB), CHUNK)

    reading = Shortens([ReadContentRequest(sha256(BLOB))], metadata=[(b"buildkit-attachable-store-id", b"local:in")])
    with pytest.raises(RpcError) as caught:
        await serve(service, "Read", reading)
    assert caught.value.code == Status.DATA_LOSS


@pytest.mark.parametrize("method", ["Info", "Read", "Write"])
@pytest.mark.parametrize(
    ("store", "code"),
    [
        (None, Status.INVALID_ARGUMENT),
        ("", Status.INVALID_ARGUMENT),
        ("in", Status.NOT_FOUND),
        ("local:./in", Status.NOT_FOUND),
        ("LOCAL:in", Status.NOT_FOUND),
    ],
)
async def test_stores_are_known_by_their_exact_id(
    service: Content, method: str, store: str | None, code: Status
) -> None:
    """FX-07."""
    assert (await refused(service, method, InfoRequest(digest=sha256(BLOB)), store=store)).code == code


@pytest.mark.parametrize(("method", "request_type"), [("Info", InfoRequest), ("Read", ReadContentRequest)])
async def test_a_blob_that_is_not_there(service: Content, method: str, request_type: Any) -> None:
    for digest, code in ((sha256(b"x"), Status.NOT_FOUND), ("sha256:../../x", Status.INVALID_ARGUMENT)):
        assert (await refused(service, method, request_type(digest=digest))).code == code


@pytest.mark.parametrize("linked", ["blob", "algorithm", "blobs"])
async def test_links_are_not_followed(tmp_path: Path, linked: str) -> None:
    """FX-08: a layout from elsewhere must not make the client read other files."""
    outside = tmp_path / "outside"
    real = blob_file(outside, BLOB)
    real.parent.mkdir(parents=True)
    real.write_bytes(BLOB)
    depth = {"blob": 0, "algorithm": 1, "blobs": 2}[linked]
    link = (blob_file(tmp_path / "in", BLOB), *blob_file(tmp_path / "in", BLOB).parents)[depth]
    link.parent.mkdir(parents=True)
    link.symlink_to((real, *real.parents)[depth])
    service = Content({"local:in": OciLayout(tmp_path / "in")})
    assert blob_file(tmp_path / "in", BLOB).read_bytes() == BLOB
    for method, request in (("Info", InfoRequest(sha256(BLOB))), ("Read", ReadContentRequest(sha256(BLOB)))):
        with pytest.raises((RpcError, TransferError), match=r"not found|regular file"):
            await call(service, method, request)


async def test_what_is_no_file_is_not_read(root: Path, service: Content) -> None:
    blob_file(root, b"x").mkdir()
    os.mkfifo(blob_file(root, b"y"))
    for data in (b"x", b"y"):
        with pytest.raises((RpcError, TransferError)):
            await call(service, "Read", ReadContentRequest(digest=sha256(data)))


async def test_a_layout_that_is_not_there(tmp_path: Path) -> None:
    service = Content({"local:in": OciLayout(tmp_path / "none")})
    assert (await refused(service, "Info", InfoRequest(digest=sha256(BLOB)))).code == Status.NOT_FOUND


def written(data: bytes, ref: str = "layer-x", digest: str | None = None) -> list[WriteContentRequest]:
    """What a daemon sends for a blob."""
    expected = sha256(data) if digest is None else digest
    requests = [WriteContentRequest(STAT, ref=ref, total=len(data), expected=expected), WriteContentRequest(STAT)]
    starts = range(0, len(data), CHUNK)
    requests += [WriteContentRequest(WRITE, offset=start, data=data[start : start + CHUNK]) for start in starts]
    return [*requests, WriteContentRequest(COMMIT, total=len(data), expected=expected, offset=len(data))]


async def write(service: Content, *requests: WriteContentRequest) -> list[WriteContentResponse]:
    return await call(service, "Write", *requests, store="local:out")


@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK + 5])
async def test_a_blob_is_written(root: Path, service: Content, size: int) -> None:
    """FX-10: each request has its response, and nothing but the blob is left."""
    data = BLOB[:size]
    requests = written(data)
    responses = await write(service, *requests)
    assert [response.action for response in responses] == [request.action for request in requests]
    assert [response.offset for response in responses[:3]] == [0, 0, min(size, CHUNK)]
    assert (responses[-1].offset, responses[-1].total, responses[-1].digest) == (size, size, sha256(data))
    assert all(response.started_at is not None and response.updated_at is not None for response in responses)
    assert files(root / "out") == {f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"}
    file = blob_file(root / "out", data)
    assert file.read_bytes() == data
    assert stat.S_IMODE(file.stat().st_mode) == 0o444


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
async def test_other_algorithms(root: Path, service: Content, algorithm: str) -> None:
    digest = hashlib.new(algorithm, BLOB).hexdigest()
    await write(service, *written(BLOB, digest=f"{algorithm}:{digest}"))
    assert (root / "out" / "blobs" / algorithm / digest).read_bytes() == BLOB


async def test_digest_and_size_may_be_announced_late_or_never(root: Path, service: Content) -> None:
    late = hashlib.sha512(BLOB).hexdigest()
    first = WriteContentRequest(WRITE, ref="a", data=BLOB)
    await write(service, first, WriteContentRequest(COMMIT, expected=f"sha512:{late}", offset=len(BLOB)))
    assert (root / "out/blobs/sha512" / late).read_bytes() == BLOB
    *_, response = await write(service, first, WriteContentRequest(COMMIT, offset=len(BLOB)))
    assert response.digest == sha256(BLOB)


@pytest.mark.parametrize("moment", ["first", "commit"])
async def test_a_blob_that_is_there_is_not_taken_again(root: Path, service: Content, moment: str) -> None:
    """The daemon takes it for success."""
    await write(service, *written(BLOB))
    requests = written(BLOB) if moment == "first" else written(BLOB, digest="")
    with pytest.raises(RpcError) as caught:
        await write(service, *requests)
    assert caught.value.code == Status.ALREADY_EXISTS
    assert files(root / "out") == {f"blobs/sha256/{hashlib.sha256(BLOB).hexdigest()}"}


@pytest.mark.parametrize(
    "last",
    [
        WriteContentRequest(COMMIT, total=6, offset=5),
        WriteContentRequest(COMMIT, expected=sha256(b"other"), offset=5),
        WriteContentRequest(COMMIT, expected="sha512:" + "0" * 128, offset=5),
    ],
)
async def test_a_blob_that_is_another_one_is_not_kept(root: Path, service: Content, last: WriteContentRequest) -> None:
    """FX-10."""
    with pytest.raises(RpcError) as caught:
        await write(service, WriteContentRequest(WRITE, ref="a", data=b"hello"), last)
    assert caught.value.code == Status.FAILED_PRECONDITION
    assert not (root / "out" / "blobs").exists()


@pytest.mark.parametrize(
    ("requests", "code"),
    [
        ([], Status.INVALID_ARGUMENT),
        ([WriteContentRequest(STAT)], Status.INVALID_ARGUMENT),
        ([WriteContentRequest(STAT, ref="a", expected="sha256:../x")], Status.INVALID_ARGUMENT),
        ([WriteContentRequest(WriteAction(9), ref="a")], Status.INVALID_ARGUMENT),
        ([WriteContentRequest(STAT, ref="a", total=-1)], Status.INVALID_ARGUMENT),
        ([WriteContentRequest(WRITE, ref="a", offset=-1)], Status.INVALID_ARGUMENT),
        ([WriteContentRequest(WRITE, ref="a", offset=1, data=b"x")], Status.OUT_OF_RANGE),
        (
            [WriteContentRequest(WRITE, ref="a", data=b"xy"), WriteContentRequest(WRITE, offset=1, data=b"z")],
            Status.OUT_OF_RANGE,
        ),
    ],
)
async def test_requests_out_of_order(service: Content, requests: list[WriteContentRequest], code: Status) -> None:
    with pytest.raises(RpcError) as caught:
        await write(service, *requests)
    assert caught.value.code == code


async def test_writing_to_an_input_is_refused(root: Path, service: Content) -> None:
    """FX-09."""
    error = await refused(service, "Write", *written(b"new"))
    assert error.code == Status.PERMISSION_DENIED
    assert files(root) == {str(blob_file(root, BLOB).relative_to(root))}


@pytest.mark.parametrize("by", ["end", "reset"])
async def test_what_was_cut_off_is_gone_on_with(root: Path, service: Content, by: str) -> None:
    """Under the same name, and with what is there counted for the digest."""
    *begun, _, commit = written(BLOB, digest=f"sha384:{hashlib.sha384(BLOB).hexdigest()}")
    metadata = [(b"buildkit-attachable-store-id", b"local:out")]
    cut = ScriptedCall(*([request] for request in begun), *([RESET] if by == "reset" else []), metadata=metadata)
    if by == "reset":
        with pytest.raises(StreamReset):
            await serve(service, "Write", cut)
    else:
        await serve(service, "Write", cut)
    assert not (root / "out" / "blobs").exists()
    rest = WriteContentRequest(WRITE, offset=2 * CHUNK, data=BLOB[2 * CHUNK :])
    responses = await write(service, begun[0], rest, commit)
    assert responses[0].offset == 2 * CHUNK
    assert files(root / "out") == {f"blobs/sha384/{hashlib.sha384(BLOB).hexdigest()}"}


async def test_what_is_written_from_the_start_replaces_what_was_there(root: Path, service: Content) -> None:
    await write(service, WriteContentRequest(WRITE, ref="layer-x", data=b"other"))
    await write(service, *written(BLOB))
    assert blob_file(root / "out", BLOB).read_bytes() == BLOB


async def test_a_name_is_written_under_by_one_at_a_time(root: Path, service: Content) -> None:
    """The second is told to come back, which a daemon does; other names are free."""

    class Slow(ScriptedCall):
        async def send(self, message: Any) -> None:
            await super().send(message)
            begun.set()
            await ended.wait()

    begun, ended = anyio.Event(), anyio.Event()
    first = Slow(*([it] for it in written(BLOB)), metadata=[(b"buildkit-attachable-store-id", b"local:out")])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, service, "Write", first)
        await begun.wait()
        with pytest.raises(RpcError) as caught:
            await write(service, *written(BLOB))
        assert caught.value.code == Status.UNAVAILABLE
        await write(service, *written(b"other", "layer-y"))
        ended.set()
    assert len(files(root / "out")) == 2


async def test_many_blobs_at_once_under_few_names(root: Path, service: Content) -> None:
    """Whoever loses tries again, as a daemon does; every blob is whole in the end."""

    async def insist(number: int) -> None:
        while True:
            try:
                await write(service, *written(b"%d" % number * 1000, f"ref-{number % 3}"))
            except RpcError as error:
                assert error.code == Status.UNAVAILABLE  # noqa: PT017 - any other fails the test
                await anyio.sleep(0.001)
            else:
                return

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(insist, number)
    assert files(root / "out") == {
        str(blob_file(root, b"%d" % number * 1000).relative_to(root)) for number in range(30)
    }


async def test_a_full_disk_is_an_error_for_good(service: Content) -> None:
    """One that the daemon does not try again for; the caller learns the place."""
    service = Content({"local:out": OciLayout("/proc/none", writable=True)})
    with pytest.raises(TransferError, match="/proc/none"):
        await write(service, *written(BLOB))


async def test_a_link_in_the_way_is_not_written_through(root: Path, service: Content) -> None:
    (root / "out").mkdir()
    (root / "elsewhere").mkdir()
    (root / "out" / "blobs").symlink_to(root / "elsewhere")
    with pytest.raises(TransferError):
        await write(service, *written(BLOB))
    assert not files(root / "elsewhere")


@given(offset=st.integers(-(2**63), 2**63 - 1), data=st.binary(max_size=300))
def test_parts_are_encoded_as_by_the_general_codec(offset: int, data: bytes) -> None:
    message = ReadContentResponse(offset=offset, data=data)
    encoded = PartCodec().encode(message)
    whole = b"".join(encoded) if isinstance(encoded, tuple) else bytes(encoded)
    assert whole == bytes(message)
    assert PartCodec().decode(whole) == message
