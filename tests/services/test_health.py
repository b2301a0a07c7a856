"""Health: what is known by name, what a watcher sees, and that nothing keeps it waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from scripted_peer import Answer, Peer, grpc_message, request, serving

from buildkit_session.grpc.router import Router
from buildkit_session.grpc.status import Status
from buildkit_session.messages.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthCheckResponseServingStatus,
    HealthListRequest,
    HealthListResponse,
)
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.health import Health
from buildkit_session.services.upload import Upload
from buildkit_session.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

HEALTH = b"/grpc.health.v1.Health/"
SERVING = HealthCheckResponseServingStatus.SERVING
UNKNOWN = HealthCheckResponseServingStatus.SERVICE_UNKNOWN
UPLOAD = "moby.upload.v1.Upload"


async def check(peer: Peer, service: str = "") -> Answer:
    return await peer.call(HEALTH + b"Check", bytes(HealthCheckRequest(service=service)))


async def watch(peer: Peer, service: str) -> int:
    """Begin to watch; returns the stream."""
    stream_id = await peer.open(request(HEALTH + b"Watch"))
    await peer.send(stream_id, grpc_message(bytes(HealthCheckRequest(service=service))), end=True)
    await peer.until(lambda: len(peer.answers[stream_id].bodies) == 1)
    return stream_id


async def test_services_are_known_by_their_names() -> None:
    """As the protocol has it: a name that is not known is an error of Check, and an answer of Watch.

    Source: grpc/grpc:doc/health-checking.md.
    """
    async with serving(Session([Upload(b"")])._router) as peer:
        for name in ("", UPLOAD, "grpc.health.v1.Health"):
            answer = await check(peer, name)
            assert HealthCheckResponse.parse(answer.bodies[0]).status == SERVING
            watching = await watch(peer, name)
            assert HealthCheckResponse.parse(peer.answers[watching].bodies[0]).status == SERVING
        for name in ("moby.upload.v1", UPLOAD.lower(), "moby.buildkit.secrets.v1.Secrets"):
            answer = await check(peer, name)
            assert answer.status == b"%d" % Status.NOT_FOUND
            assert answer.bodies == []
            watching = await watch(peer, name)
            assert HealthCheckResponse.parse(peer.answers[watching].bodies[0]).status == UNKNOWN
        listed = HealthListResponse.parse((await peer.call(HEALTH + b"List", bytes(HealthListRequest()))).bodies[0])
    assert {name: one.status for name, one in listed.statuses.items()} == dict.fromkeys(
        ("", UPLOAD, "grpc.health.v1.Health"), SERVING
    )


async def test_a_watch_lasts_as_long_as_the_session() -> None:
    """It says nothing more, and does not outlive its calls, nor the patience of the watcher."""
    async with serving(Router(Health().routes())) as peer:
        first, second = await watch(peer, ""), await watch(peer, "x")
        await peer.reset(second)
        await peer.ping()
        assert (await check(peer)).status == b"0"
        assert not peer.answers[first].ended
        peer.cancel_calls()
        answer = await peer.answer(first)
    assert answer.reset == 8
    assert len(answer.bodies) == 1


async def test_a_busy_connection_still_answers() -> None:
    """FC-06, LS-06: with eight streams that are stalled, and while a large one runs."""
    pieces = 32

    def large() -> Iterator[bytes]:
        yield from (b"x" * 1024 * 1024 for _ in range(pieces))

    bulk, stalled = Upload(large()), [Upload(b"x" * 8 * 1024 * 1024) for _ in range(8)]
    by_name = {f"/{number}": upload for number, upload in enumerate([bulk, *stalled])}
    router = Router(Health().routes())
    for name, upload in by_name.items():
        (route,) = upload.routes()
        router.add(type(route)(f"/test.Upload{name}", route.handler, route.select))

    async with serving(router) as peer:
        peer.h2.increment_flow_control_window(16 * 1024 * 1024)  # of the connection
        peer.returns_credit = False  # those that are opened now stay where they are
        for name, upload in list(by_name.items())[1:]:
            await open_upload(peer, name, upload)
        await peer.ping()
        peer.returns_credit = True
        running = await open_upload(peer, "/0", bulk)
        checks = 0
        while not peer.answers[running].ended:
            assert (await check(peer)).status == b"0"
            checks += 1
            await anyio.lowlevel.checkpoint()
        answer = await peer.answer(running)
    assert sum(len(BytesMessage.parse(body).data) for body in answer.bodies) == pieces * 1024 * 1024
    assert checks > 20


async def open_upload(peer: Peer, name: str, upload: Upload) -> int:
    extra = (b"urlpath", upload.url.removeprefix("http://buildkit-session").encode())
    return await peer.open(request(f"/test.Upload{name}".encode(), extra))
