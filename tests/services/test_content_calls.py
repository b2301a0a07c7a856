"""Content over a real connection: blobs that are cut off and gone on with, limits, and a daemon that misuses it."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scripted_peer import Answer, Peer, grpc_message, request, serving

from buildkit_session.errors import QuotaExceeded, RpcError, TransferError
from buildkit_session.fsutil.quota import Limits, Quota
from buildkit_session.grpc.router import Router
from buildkit_session.grpc.status import Status
from buildkit_session.messages.containerd.services.content.v1 import (
    AbortRequest,
    InfoRequest,
    ListStatusesRequest,
    ListStatusesResponse,
    ReadContentRequest,
    StatusRequest,
    StatusResponse,
    WriteAction,
    WriteContentRequest,
    WriteContentResponse,
)
from buildkit_session.services.content import CHUNK, MAX_REF, Content
from buildkit_session.services.oci_ingests import list_all, remove_stale
from buildkit_session.services.oci_layout import MAX_UNFINISHED, OciLayout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from betterproto2 import Message

pytestmark = pytest.mark.anyio

SERVICE = b"/containerd.services.content.v1.Content/"
BLOB = os.urandom(2 * CHUNK + 1234)
STAT, WRITE, COMMIT = WriteAction.STAT, WriteAction.WRITE, WriteAction.COMMIT


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Served:
    """A layout to write to, one to read from, and a daemon at the other end."""

    def __init__(self, peer: Peer, failures: list[Exception]) -> None:
        self.peer = peer
        self.failures = failures

    async def call(self, method: str, message: Message, store: str = "local:out") -> Answer:
        extra = [(b"buildkit-attachable-store-id", store.encode())] if store else []
        return await self.peer.call(SERVICE + method.encode(), bytes(message), extra=extra)

    async def begin(self, ref: str, store: str = "local:out", **fields: Any) -> Writing:
        extra = (b"buildkit-attachable-store-id", store.encode())
        writing = Writing(self.peer, await self.peer.open(request(SERVICE + b"Write", extra)))
        await writing.send(WriteContentRequest(STAT, ref=ref, **fields))
        return writing

    async def write(self, ref: str, data: bytes, digest: str | None = None, total: int | None = None) -> Answer:
        """Write a blob as a daemon does: from where the answer to STAT says."""
        expected, size = digest or sha256(data), len(data) if total is None else total
        writing = await self.begin(ref, total=size, expected=expected)
        last = await writing.response()
        while last is not None and last.offset < len(data):
            start = last.offset
            await writing.send(WriteContentRequest(WRITE, offset=start, data=data[start : start + CHUNK]))
            last = await writing.response()
        if last is not None:
            commit = WriteContentRequest(COMMIT, total=size, expected=expected, offset=len(data))
            await writing.send(commit, end=True)
        return await self.peer.answer(writing.stream_id)


class Writing:
    """One call of Write under way."""

    def __init__(self, peer: Peer, stream_id: int) -> None:
        self.stream_id = stream_id
        self._peer = peer
        self._seen = 0

    async def send(self, message: WriteContentRequest, *, end: bool = False) -> None:
        answer = self._peer.answers[self.stream_id]
        if not answer.ended and answer.reset is None:
            await self._peer.send(self.stream_id, grpc_message(bytes(message)), end=end)

    async def response(self) -> WriteContentResponse | None:
        """The next response, ``None`` if the call has ended."""
        answer = self._peer.answers[self.stream_id]
        await self._peer.until(lambda: answer.ended or len(_whole(answer)) > self._seen)
        if len(_whole(answer)) <= self._seen:
            return None
        self._seen += 1
        return WriteContentResponse.parse(_whole(answer)[self._seen - 1])


def _whole(answer: Answer) -> list[bytes]:
    bodies, rest = [], bytes(answer.data)
    while len(rest) >= 5 and len(rest) >= 5 + int.from_bytes(rest[1:5], "big"):
        end = 5 + int.from_bytes(rest[1:5], "big")
        bodies.append(rest[5:end])
        rest = rest[end:]
    return bodies


@asynccontextmanager
async def content(root: Path, limits: Limits | None = None) -> AsyncIterator[Served]:
    quota = Quota(limits) if limits else None
    stores = {"local:out": OciLayout(root / "out", writable=True, quota=quota), "local:in": OciLayout(root / "in")}
    failures: list[Exception] = []
    router = Router(Content(stores).routes())
    async with serving(router, on_error=lambda _path, error: failures.append(error)) as peer:
        yield Served(peer, failures)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def blob_name(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def code(answer: Answer) -> Status:
    assert answer.status is not None, answer
    return Status(int(answer.status))


# -- cut off and gone on with --------------------------------------------------------------------------------------


async def cut_off(served: Served, root: Path, data: bytes = BLOB[:CHUNK]) -> None:
    """Write the beginning of a blob, and reset the call."""
    writing = await served.begin("layer-x", total=len(BLOB), expected=sha256(BLOB))
    await writing.response()
    await writing.send(WriteContentRequest(WRITE, data=data))
    answered = await writing.response()
    assert answered is not None
    assert answered.offset == len(data)
    await served.peer.reset(writing.stream_id)
    # The call lets go of the name in its own time; it says how long the whole will be when it does.
    with anyio.fail_after(30):
        while not list((root / "out").glob("ingest/*/total")):  # noqa: ASYNC110 - the kernel does not tell
            await anyio.sleep(0.01)


async def test_what_was_cut_off_is_gone_on_with_where_it_ended(tmp_path: Path) -> None:
    """In a session of its own too: what came is on disk, its length is told, and the digest is of the whole."""
    async with content(tmp_path) as served:
        await cut_off(served, tmp_path)
    async with content(tmp_path) as served:
        (status,) = ListStatusesResponse.parse(
            (await served.call("ListStatuses", ListStatusesRequest())).bodies[0]
        ).statuses
        one = StatusResponse.parse((await served.call("Status", StatusRequest(ref="layer-x"))).bodies[0]).status
        assert one == status
        assert (status.ref, status.offset, status.total) == ("layer-x", CHUNK, len(BLOB))
        assert status.started_at is not None
        assert abs(status.started_at.seconds - time.time()) < 600
        writing = await served.begin("layer-x", total=len(BLOB), expected=sha256(BLOB))
        first = await writing.response()
        assert first is not None
        assert (first.offset, first.digest) == (CHUNK, sha256(BLOB[:CHUNK]))
        await writing.send(WriteContentRequest(WRITE, offset=CHUNK, data=BLOB[CHUNK:]))
        await writing.send(WriteContentRequest(COMMIT, total=len(BLOB), offset=len(BLOB)), end=True)
        assert code(await served.peer.answer(writing.stream_id)) == Status.OK
    assert files(tmp_path / "out") == {blob_name(BLOB)}


async def test_a_damaged_remainder_is_thrown_away(tmp_path: Path) -> None:
    """So that the try after the one that finds it succeeds; so it is with a remainder that is too long."""
    async with content(tmp_path) as served:
        await cut_off(served, tmp_path, b"x" * 100)
        assert code(await served.write("layer-x", b"short")) == Status.OK
        await cut_off(served, tmp_path, b"x" * CHUNK)
        found = await served.write("layer-x", BLOB)
        assert code(found) == Status.FAILED_PRECONDITION
        assert found.message.endswith(b"try again")
        assert files(tmp_path / "out") == {blob_name(b"short")}
        assert code(await served.write("layer-x", BLOB)) == Status.OK
    assert files(tmp_path / "out") == {blob_name(BLOB), blob_name(b"short")}


async def test_a_ref_is_written_by_one_at_a_time_and_free_after_a_reset(tmp_path: Path) -> None:
    async with content(tmp_path) as served:
        writing = await served.begin("layer-x")
        await writing.response()
        assert code(await served.write("layer-x", BLOB)) == Status.UNAVAILABLE
        assert code(await served.call("Abort", AbortRequest(ref="layer-x"))) == Status.UNAVAILABLE
        await served.peer.reset(writing.stream_id)
        with anyio.fail_after(30):
            while list_all(OciLayout(tmp_path / "out")):  # noqa: ASYNC110 - an empty one is not kept
                await anyio.sleep(0.01)
        assert code(await served.write("layer-x", BLOB)) == Status.OK


async def test_what_was_begun_can_be_given_up(tmp_path: Path) -> None:
    async with content(tmp_path) as served:
        await cut_off(served, tmp_path)
        assert code(await served.call("Abort", AbortRequest(ref="layer-x"))) == Status.OK
        assert files(tmp_path / "out") == set()
        for method, message in (("Abort", AbortRequest(ref="layer-x")), ("Status", StatusRequest(ref="layer-x"))):
            assert code(await served.call(method, message)) == Status.NOT_FOUND


async def test_a_blob_of_the_wrong_size_is_replaced(tmp_path: Path) -> None:
    """A cache that another program has damaged heals when it is written again."""
    async with content(tmp_path) as served:
        await served.write("a", BLOB)
        file = tmp_path / "out" / blob_name(BLOB)
        file.chmod(0o644)
        file.write_bytes(BLOB[:100])
        assert code(await served.write("a", BLOB)) == Status.OK
        assert file.read_bytes() == BLOB
        assert code(await served.write("a", BLOB)) == Status.ALREADY_EXISTS


async def test_stale_remainders_are_cleared_away(tmp_path: Path) -> None:
    """Those that are written to, and those of today, stay."""
    layout = OciLayout(tmp_path / "out", writable=True)
    for ref in ("old", "damaged", "new", "held"):
        ingest = layout.ingest(ref)
        ingest.write(b"x")
        ingest.close()
    day = time.time() - 2 * 24 * 3600
    for ref in ("old", "damaged", "held"):
        folder = tmp_path / "out/ingest" / hashlib.sha256(ref.encode()).hexdigest()
        if ref == "damaged":
            (folder / "ref").write_bytes(b"\xff")
        os.utime(folder / "data", (day, day))
        os.utime(folder, (day, day))
    held = layout.ingest("held")
    remove_stale(layout)
    assert {one.ref for one in list_all(layout)} == {"new", "held"}
    assert len(os.listdir(tmp_path / "out/ingest")) == 2
    held.close()
    layout.abandon()  # as after a build that has succeeded
    assert list_all(layout) == []
    remove_stale(OciLayout(tmp_path / "none"))


async def test_remainders_do_not_pile_up(tmp_path: Path) -> None:
    """One without any content is not kept at all, of the others a build leaves no more than so many."""
    layout = OciLayout(tmp_path / "out", writable=True)
    for number in range(MAX_UNFINISHED + 20):
        ingest = layout.ingest(str(number))
        ingest.write(b"x")
        ingest.close()
    assert len(list_all(layout)) == MAX_UNFINISHED
    async with content(tmp_path) as served:
        before = len(os.listdir(tmp_path / "out/ingest"))
        for number in range(20):
            writing = await served.begin(f"empty {number}")
            await writing.response()
            await served.peer.send(writing.stream_id, b"", end=True)
            assert code(await served.peer.answer(writing.stream_id)) == Status.OK
        assert len(os.listdir(tmp_path / "out/ingest")) == before


# -- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [Limits(max_bytes=len(BLOB) + 99), Limits(max_entries=1)], ids=["bytes", "entries"])
async def test_a_quota(tmp_path: Path, limits: Limits) -> None:
    """Exactly what is allowed fits; what is there already is free; the caller gets the limit, the daemon a final no."""
    async with content(tmp_path, limits) as served:
        assert code(await served.write("a", BLOB)) == Status.OK
        assert code(await served.write("a", BLOB)) == Status.ALREADY_EXISTS
        refused = await served.write("b", b"x" * 100)
        assert code(refused) == Status.RESOURCE_EXHAUSTED
        assert b"raise max_" in refused.message
    error = served.failures[-1]
    assert isinstance(error, RpcError)
    assert isinstance(error.__cause__, QuotaExceeded)
    assert files(tmp_path / "out") == {blob_name(BLOB)}


async def test_an_endless_write_ends_at_the_size_that_was_announced(tmp_path: Path) -> None:
    async with content(tmp_path) as served:
        writing = await served.begin("a", total=CHUNK)
        sent = 0
        while await writing.response() is not None:
            await writing.send(WriteContentRequest(WRITE, offset=sent, data=b"x" * 100_000))
            sent += 100_000
        answer = await served.peer.answer(writing.stream_id)
        assert code(answer) == Status.FAILED_PRECONDITION
        assert CHUNK < sent <= CHUNK + 200_000
    assert files(tmp_path / "out") == set()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Not for the daemon to try again; the caller learns where; what was begun makes room. See tests of real builds."""

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("buildkit_session.services.oci_layout.write_all", full)
    async with content(tmp_path) as served:
        assert code(await served.write("a", BLOB)) == Status.RESOURCE_EXHAUSTED
    assert isinstance(served.failures[0].__cause__, TransferError)
    assert str(tmp_path) in str(served.failures[0].__cause__)
    assert files(tmp_path / "out") == set()


# -- misuse ---------------------------------------------------------------------------------------------------------

HOSTILE = ["../../etc/passwd", "/etc/passwd", "sha256:../../../../etc/passwd", "a\0b", "sha256:" + "A" * 64, "x" * 4096]


async def test_names_lead_nowhere(tmp_path: Path) -> None:
    """Digests, store ids and refs that are paths, or none at all; each answer names nothing of this machine."""
    elsewhere = ["md5:" + "0" * 32, "sha1:" + "0" * 40, "sha256:" + "0" * 63, "sha512:" + "0" * 64, "sha256", "", ":"]
    async with content(tmp_path) as served:
        for digest in [*HOSTILE, *elsewhere, f"{sha256(BLOB)}\n", f" {sha256(BLOB)}"]:
            for method, message in (("Info", InfoRequest(digest)), ("Read", ReadContentRequest(digest))):
                answer = await served.call(method, message, "local:in")
                assert code(answer) == Status.INVALID_ARGUMENT, digest
            if digest:
                assert code(await served.write("a", b"x", digest)) == Status.INVALID_ARGUMENT
        for store in (f"local:{tmp_path}/in", "local:../in", "local:in/", "in", "export", "x" * 4096):
            assert code(await served.call("Info", InfoRequest(sha256(BLOB)), store)) == Status.NOT_FOUND
        for ref in HOSTILE:
            answer = await served.write(ref, ref.encode())
            assert code(answer) == (Status.OK if len(ref) <= MAX_REF else Status.INVALID_ARGUMENT)
        assert str(tmp_path).encode() not in answer.message
    allowed = {blob_name(ref.encode()) for ref in HOSTILE if len(ref) <= MAX_REF}
    assert files(tmp_path) == {f"out/{name}" for name in allowed}


async def test_an_input_is_neither_written_nor_listed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    async with content(tmp_path) as served:
        writing = await served.begin("a", "local:in")
        assert code(await served.peer.answer(writing.stream_id)) == Status.PERMISSION_DENIED
        for method, message in (
            ("Status", StatusRequest(ref="a")),
            ("ListStatuses", ListStatusesRequest()),
            ("Abort", AbortRequest(ref="a")),
        ):
            assert code(await served.call(method, message, "local:in")) == Status.PERMISSION_DENIED
        for method in ("Update", "Delete", "List"):
            assert code(await served.call(method, StatusRequest(), "local:in")) == Status.UNIMPLEMENTED
    assert os.listdir(tmp_path / "in") == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (WriteContentRequest(WRITE, offset=-1, data=b"x"), Status.INVALID_ARGUMENT),
        (WriteContentRequest(WRITE, offset=2**62, data=b"x"), Status.OUT_OF_RANGE),
        (WriteContentRequest(STAT, total=-1), Status.INVALID_ARGUMENT),
        (WriteContentRequest(WriteAction(7)), Status.INVALID_ARGUMENT),
        (WriteContentRequest(COMMIT, total=4), Status.FAILED_PRECONDITION),
        (WriteContentRequest(COMMIT, total=2**62, offset=5), Status.FAILED_PRECONDITION),
        (WriteContentRequest(COMMIT, total=5, offset=5, expected=sha256(b"other")), Status.FAILED_PRECONDITION),
    ],
)
async def test_a_write_that_makes_no_sense(tmp_path: Path, message: WriteContentRequest, expected: Status) -> None:
    """It ends the call; no blob is made, and the connection lives on."""
    async with content(tmp_path) as served:
        writing = await served.begin("a")
        await writing.send(WriteContentRequest(WRITE, data=b"hello"))
        await writing.send(message, end=True)
        assert code(await served.peer.answer(writing.stream_id)) == expected
        assert not (tmp_path / "out/blobs").exists()
        assert code(await served.write("b", BLOB)) == Status.OK


async def test_two_hundred_blobs_at_once(tmp_path: Path) -> None:
    """As many as a connection allows at a time; each is whole, nothing is left, and no descriptor stays open."""
    before = len(os.listdir("/proc/self/fd"))
    async with content(tmp_path) as served:
        room = anyio.CapacityLimiter(100)

        async def one(number: int) -> None:
            data = b"%d" % number * 20_000
            async with room:
                assert code(await served.write(f"ref-{number}", data)) == Status.OK

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(one, number)
    assert len(files(tmp_path / "out")) == 200
    assert os.listdir(tmp_path / "out/ingest") == []
    with anyio.fail_after(30):
        while len(os.listdir("/proc/self/fd")) > before:  # noqa: ASYNC110 - the kernel does not tell
            await anyio.sleep(0.01)


@pytest.mark.parametrize("trap", ["link", "fifo", "directory", "device"])
async def test_a_trap_in_a_layout(tmp_path: Path, trap: str) -> None:
    """What is no plain file is neither read, nor waited for, nor written through."""
    root = tmp_path / "in"
    file = root / blob_name(BLOB)
    file.parent.mkdir(parents=True)
    if trap == "link":
        file.symlink_to("/etc/passwd")
    elif trap == "fifo":
        os.mkfifo(file)
    elif trap == "directory":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero")
    (tmp_path / "out").symlink_to("in")  # a layout may be reached by a link; what is inside of it may not
    async with content(tmp_path) as served:
        for method, message in (("Info", InfoRequest(sha256(BLOB))), ("Read", ReadContentRequest(sha256(BLOB)))):
            answer = await served.call(method, message, "local:in")
            assert code(answer) in (Status.INTERNAL, Status.NOT_FOUND)
            assert answer.bodies == []
        assert code(await served.write("a", BLOB)) == Status.INTERNAL


async def test_a_layout_whose_blobs_are_swapped_for_a_link(tmp_path: Path) -> None:
    """In between two calls, and while a blob is on its way."""
    outside = tmp_path / "outside"
    (outside / "sha256").mkdir(parents=True)
    (outside / blob_name(BLOB).removeprefix("blobs/")).write_bytes(BLOB)
    async with content(tmp_path) as served:
        assert code(await served.write("first", b"first")) == Status.OK
        writing = await served.begin("second", total=6)
        await writing.response()
        (tmp_path / "out/blobs").rename(tmp_path / "aside")
        (tmp_path / "out/blobs").symlink_to(outside)
        await writing.send(WriteContentRequest(COMMIT, data=b"second", total=6), end=True)
        assert code(await served.peer.answer(writing.stream_id)) == Status.INTERNAL
        for method, message in (("Info", InfoRequest(sha256(BLOB))), ("Read", ReadContentRequest(sha256(BLOB)))):
            assert code(await served.call(method, message)) == Status.NOT_FOUND
    assert files(outside) == {blob_name(BLOB).removeprefix("blobs/")}


async def test_a_damaged_blob_is_never_handed_out_whole(tmp_path: Path) -> None:
    """However it is read, as long as that is in order; the last window fails, and the caller learns of the place."""
    file = tmp_path / "in" / blob_name(BLOB)
    file.parent.mkdir(parents=True)
    file.write_bytes(BLOB[:-1] + bytes([BLOB[-1] ^ 1]))
    async with content(tmp_path) as served:
        for window in (0, CHUNK, 500_000):
            starts = range(0, len(BLOB), window) if window else [0]
            answers = [
                await served.call("Read", ReadContentRequest(sha256(BLOB), start, window), "local:in")
                for start in starts
            ]
            assert [code(answer) for answer in answers] == [Status.OK] * (len(answers) - 1) + [Status.DATA_LOSS]
            assert str(tmp_path).encode() not in answers[-1].message
        assert f"layout {tmp_path / 'in'} is damaged" in str(served.failures[0].__cause__)
        file.write_bytes(BLOB)
        answer = await served.call("Read", ReadContentRequest(sha256(BLOB)), "local:in")
        assert code(answer) == Status.OK
