"""Builds whose result this side makes, through the gateway of real daemons."""

from __future__ import annotations

import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.daemon import Daemon as Client
from buildkit_session.engine.gateway import Gateway, gateway_build, only_ref
from buildkit_session.engine.llb import source_definition
from buildkit_session.errors import BuildError, RemoteProtocolError, RpcError, TransferError
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.messages.moby.buildkit.v1 import frontend
from buildkit_session.services.filesync import FileSync
from buildkit_session.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from buildkit_session.engine.daemon import Link
    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

PATIENCE = 20  # seconds; a build that is never returned hangs for ever


@asynccontextmanager
async def linked(daemon: Daemon, context: Path) -> AsyncIterator[tuple[Link, Session]]:
    """A session that shares ``context``, as local sources of its name and of the Dockerfile."""
    descriptor = os.open(context, os.O_RDONLY)
    session = Session([FileSync({"context": descriptor, "dockerfile": descriptor})])
    try:
        async with Client(find_endpoint(daemon.address)).link() as link, session.serving(link.dial_session):
            yield link, session
    finally:
        os.close(descriptor)


async def built(
    daemon: Daemon,
    context: Path,
    work: Callable[[Gateway, Session], Awaitable[frontend.Result]],
    entitlements: Sequence[str] = (),
) -> list[ProgressEvent]:
    async with linked(daemon, context) as (link, session):
        request = v1.SolveRequest(
            ref=secrets.token_hex(8), session=session.id, internal=True, entitlements=list(entitlements)
        )
        with anyio.fail_after(PATIENCE):
            async with gateway_build(link, request, lambda gateway: work(gateway, session)) as stream:
                return [event async for event in stream]


def context_of(session: Session) -> frontend.SolveRequest:
    attrs = {"local.session": session.id, "local.sharedkeyhint": secrets.token_hex(4)}
    return frontend.SolveRequest(definition=source_definition("local://context", attrs, name="the context"))


async def test_looking_into_a_result(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.txt").write_text("0123456789")
    seen: list[object] = []

    async def work(gateway: Gateway, session: Session) -> frontend.Result:
        result = await gateway.solve(context_of(session))
        ref = only_ref(result)
        seen.append(await gateway.read_file(ref, "folder/file.txt"))
        seen.append(await gateway.read_file(ref, "folder/file.txt", offset=2, length=3))
        return result

    events = await built(daemon, tmp_path, work)
    assert seen == [b"0123456789", b"234"]
    assert "the context" in {getattr(event, "name", "") for event in events}


async def test_what_the_daemon_can_do(daemon: Daemon, tmp_path: Path) -> None:
    pongs: list[frontend.PongResponse] = []

    async def work(gateway: Gateway, session: Session) -> frontend.Result:
        pongs.append(await gateway.ping())
        return frontend.Result()

    await built(daemon, tmp_path, work)
    assert "source.local" in {cap.id for cap in pongs[0].llb_caps}
    assert "return" in {cap.id for cap in pongs[0].frontend_api_caps}


async def test_details_of_an_error_survive_the_way_back(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nFOO\n")

    async def work(gateway: Gateway, session: Session) -> frontend.Result:
        return await gateway.solve(frontend.SolveRequest(frontend="dockerfile.v0"))

    with pytest.raises(BuildError, match=r"(?i)unknown instruction: FOO") as caught:
        await built(daemon, tmp_path, work)
    if not daemon.version.startswith("20.10"):  # which sends none
        assert caught.value.sources[0].ranges[0].start.line == 2


async def test_an_error_of_this_side_ends_the_build(daemon: Daemon, tmp_path: Path) -> None:
    async def work(gateway: Gateway, session: Session) -> frontend.Result:
        raise TransferError("cannot go on")

    with pytest.raises(BuildError, match="cannot go on"):
        await built(daemon, tmp_path, work)


async def test_an_error_that_cannot_be_returned_ends_the_build(daemon: Daemon, tmp_path: Path) -> None:
    """The daemon would wait for ever."""

    async def work(gateway: Gateway, session: Session) -> frontend.Result:
        gateway.ref = "another"
        raise TransferError("cannot go on")

    with pytest.raises(TransferError, match="cannot go on"):
        await built(daemon, tmp_path, work)


async def test_a_result_that_cannot_be_returned_ends_the_build(daemon: Daemon, tmp_path: Path) -> None:
    async def work(gateway: Gateway, session: Session) -> frontend.Result:
        return frontend.Result(ref=frontend.Ref(id="no such result"))

    with pytest.raises((BuildError, RemoteProtocolError), match="no such result"):
        await built(daemon, tmp_path, work)


async def test_leaving_early_cancels_the_build(daemon: Daemon, tmp_path: Path) -> None:
    """The bridge forgets a build that has ended, and knows one that waits."""
    entered = anyio.Event()

    async def work(gateway: Gateway) -> frontend.Result:
        await gateway.ping()
        entered.set()
        await anyio.sleep_forever()
        raise AssertionError

    async with linked(daemon, tmp_path) as (link, session):
        request = v1.SolveRequest(ref=secrets.token_hex(8), session=session.id, internal=True)
        with anyio.fail_after(PATIENCE):
            async with gateway_build(link, request, work):
                await entered.wait()
            with pytest.raises(RpcError) as caught:
                await answered_until_refused(Gateway(link.channel, request.ref))
    assert caught.value.code in (Status.NOT_FOUND, Status.UNKNOWN)


async def answered_until_refused(gateway: Gateway) -> None:
    while True:  # the cancellation takes its time
        await gateway.ping()
        await anyio.sleep(0.05)


async def test_a_build_that_the_daemon_refuses(daemon: Daemon, tmp_path: Path) -> None:
    """Its error is not hidden by those of the gateway, which knows no such build."""

    async def work(gateway: Gateway, session: Session) -> frontend.Result:
        await gateway.ping()
        return frontend.Result()

    with pytest.raises(BuildError, match=r"security\.insecure is not allowed"):
        await built(daemon, tmp_path, work, ["security.insecure"])


@pytest.mark.parametrize("result", [frontend.Result(), frontend.Result(refs=frontend.RefMap({"a": frontend.Ref("b")}))])
def test_results_that_are_not_one_tree(result: frontend.Result) -> None:
    with pytest.raises(RemoteProtocolError, match="not a single tree"):
        only_ref(result)


def test_the_tree_of_an_old_daemon() -> None:
    assert only_ref(frontend.Result(ref_deprecated="a")) == "a"
