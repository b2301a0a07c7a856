"""Health as a daemon may ask for it while a build runs: of a session that a client has made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from fake_buildkit import KINDS, fake_buildkit, silent

import buildkit_session as bk
from buildkit_session.grpc.codec import MessageCodec
from buildkit_session.grpc.status import Status
from buildkit_session.messages.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthCheckResponseServingStatus,
    HealthListRequest,
    HealthListResponse,
)

if TYPE_CHECKING:
    from pathlib import Path

    from fake_buildkit import Kind

    from buildkit_session.grpc.channel import Channel

pytestmark = pytest.mark.anyio

HEALTH = "/grpc.health.v1.Health"
SERVING = HealthCheckResponseServingStatus.SERVING
SECRETS = "moby.buildkit.secrets.v1.Secrets"


@pytest.mark.parametrize("kind", KINDS)
async def test_check_list_and_watch(kind: Kind, tmp_path: Path) -> None:
    """What is listed is what this build offers; who watches hears nothing more until the build ends, and that then."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    greeter = bk.Service("example.v1.Greeter")

    @greeter.unary("Hello")
    async def hello(request: bytes) -> bytes:
        await anyio.lowlevel.checkpoint()
        return request

    seen: list[HealthCheckResponseServingStatus] = []
    first, ended = anyio.Event(), anyio.Event()

    async def watch(daemon: Channel) -> None:
        request, response = HealthCheckRequest(service=SECRETS), MessageCodec(HealthCheckResponse)
        try:
            async with daemon.stream(f"{HEALTH}/Watch", request, response) as call:
                while (answer := await call.recv()) is not None:
                    seen.append(answer.status)
                    first.set()
        except bk.SessionError:  # the session has ended, and the call with it
            ended.set()

    scripts = {"Control/Solve": silent, "Control/Status": silent}
    async with (
        fake_buildkit(scripts, kind=kind) as buildkit,
        bk.connect(buildkit.address) as client,
        anyio.create_task_group() as tasks,
    ):
        async with client.start(tmp_path, secrets={"a": bk.secret.value("x")}, services=[greeter]):
            daemon = await buildkit.session()
            tasks.start_soon(watch, daemon)
            await first.wait()
            listed = await daemon.unary(f"{HEALTH}/List", HealthListRequest(), HealthListResponse)
            assert {"", "grpc.health.v1.Health", SECRETS, "example.v1.Greeter"} <= set(listed.statuses)
            assert "moby.sshforward.v1.SSH" not in listed.statuses
            for name, status in listed.statuses.items():
                assert status.status == SERVING
                checked = await daemon.unary(f"{HEALTH}/Check", HealthCheckRequest(service=name), HealthCheckResponse)
                assert checked.status == SERVING
            with pytest.raises(bk.RpcError) as caught:
                await daemon.unary(f"{HEALTH}/Check", HealthCheckRequest(service="x.Y"), HealthCheckResponse)
            assert caught.value.code == Status.NOT_FOUND
            assert not ended.is_set()
        with anyio.fail_after(60):
            await ended.wait()
    assert seen == [SERVING]
