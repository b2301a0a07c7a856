"""The session: what it advertises, and how it begins and ends."""

from __future__ import annotations

import asyncio
import os
import traceback
from typing import TYPE_CHECKING

import pytest
from tricky_cases import tricky

from buildkit_session.engine.address import Endpoint, UnixSocket
from buildkit_session.engine.hijack import hijack
from buildkit_session.errors import RpcError, TransferError
from buildkit_session.fsutil.packets import PeerGaveUp
from buildkit_session.grpc.metadata import Metadata
from buildkit_session.services.credentials import registry_host
from buildkit_session.services.filesend import FileSend
from buildkit_session.services.filesync import FileSync
from buildkit_session.session import MAX_FAILURES, Session, shared_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from buildkit_session.http2.connection import Connection
    from buildkit_session.testing import Daemon

METHOD = "X-Docker-Expose-Session-Grpc-Method"


@tricky(3, 4)
def test_every_route_is_advertised_on_a_line_of_its_own() -> None:
    """One header field a method, in the schema's spelling, from the router's table."""
    session = Session([FileSync({}), FileSend({})], shared_key="key", name="name")
    methods = [value for name, value in session.headers if name == METHOD]
    assert methods == [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
        "/moby.filesync.v1.FileSync/DiffCopy",
        "/moby.filesync.v1.FileSync/TarStream",
        "/moby.filesync.v1.FileSend/DiffCopy",
    ]
    assert session.headers[:3] == [
        ("X-Docker-Expose-Session-Uuid", session.id),
        ("X-Docker-Expose-Session-Sharedkey", "key"),
        ("X-Docker-Expose-Session-Name", "name"),
    ]


@tricky(6)
def test_ids_are_fresh_and_plain() -> None:
    """The daemon looks up an id by what follows its first colon, so there must be none."""
    ids = {Session([]).id for _ in range(100)}
    assert len(ids) == 100
    assert all(one.isalnum() for one in ids)


def test_shared_key_is_stable_and_per_directory(tmp_path: Path) -> None:
    assert shared_key(tmp_path / "a") == shared_key(tmp_path / "a")
    assert shared_key(tmp_path / "a") != shared_key(tmp_path / "b" / "a")
    assert str(tmp_path) not in shared_key(tmp_path)


def test_own_failure_is_the_first_that_began_here() -> None:
    """What the daemon said it gave up for is never the first cause."""
    session = Session([])
    assert session.own_failure is None
    ours = TransferError("disk full")
    session.failures += [("/a", RpcError(5)), ("/b", PeerGaveUp("context canceled")), ("/c", ours)]
    assert session.own_failure is ours


def test_what_the_daemon_was_told_counts_if_it_repeats_it() -> None:
    """A cache that is damaged does not stop a build; it is not why a step fails later."""
    session = Session([])
    told, cause = RpcError(15, "content x is damaged"), TransferError("blob x of the OCI layout /cache is damaged")
    told.__cause__ = cause
    session.failures += [("/a", RpcError(5, "not found")), ("/b", told)]
    assert session.own_failure is cause
    assert session.failure_behind("rpc error: code = DataLoss desc = content x is damaged") is cause
    assert session.failure_behind("process did not complete: exit code 3: not found") is None
    session.failures.append(("/c", TransferError("disk full")))
    assert str(session.failure_behind("exit code 3")) == "disk full"


def test_failures_of_the_daemons_making_do_not_crowd_out_a_fault() -> None:
    """It may ask for a hundred secrets that nobody has; what went wrong here is still known, and nothing is held."""
    session = Session([])
    for _ in range(MAX_FAILURES):
        session._failed("/a", RpcError(5, "not found"))
    try:
        os.stat("\0")
    except ValueError as error:
        ours = TransferError("cannot read")
        ours.__cause__ = error
    session._failed("/b", ours)
    assert session.own_failure is ours
    assert len(session.failures) == 1


def test_a_failure_holds_no_message() -> None:
    """The frames of this package have them; those of the caller's own code tell him where it went wrong."""
    session = Session([])
    try:
        registry_host(None)  # type: ignore[arg-type]
    except AttributeError as error:
        session._failed("/a", error)
        passed = error.__traceback__
    assert [entry.name for entry in traceback.extract_tb(passed)] == [
        "test_a_failure_holds_no_message",
        "registry_host",
    ]
    with pytest.raises(TypeError) as caught:
        Metadata(None)  # type: ignore[arg-type]
    (_, inner) = caught.traceback
    session._failed("/a", caught.value.with_traceback(inner._rawentry))  # as caught in there
    assert caught.value.__traceback__ is None


@tricky(5)
@pytest.mark.anyio
async def test_health_is_served_until_the_end(daemon: Daemon) -> None:
    """A real daemon checks the session, and hangs up once it is closed; the block ends at once."""
    endpoint = Endpoint(UnixSocket(daemon.address.removeprefix("unix://")))

    async def dial(headers: list[tuple[str, str]], make: Callable[[], Connection]) -> Connection:
        return await hijack(endpoint, "/session", headers, make)

    session = Session([])
    async with session.serving(dial) as connection:
        streams = await _first_streams(connection, 2)
    assert streams == ["/grpc.health.v1.Health/Check"] * 2
    assert session.failures == []
    await asyncio.wait_for(connection.closed.wait(), 10)


async def _first_streams(connection: Connection, count: int) -> list[str]:
    """Watch which methods the daemon calls, without disturbing how they are served."""
    seen: asyncio.Queue[str] = asyncio.Queue()
    serve = connection._on_stream

    def on_stream(stream: object) -> None:
        seen.put_nowait(dict(stream.headers)[b":path"].decode())  # type: ignore[attr-defined]
        serve(stream)  # type: ignore[arg-type]

    connection._on_stream = on_stream
    return [await asyncio.wait_for(seen.get(), 30) for _ in range(count)]
