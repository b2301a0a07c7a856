"""Large messages from many calls at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scripted_peer import grpc_message, request, serving

from buildkit_session.grpc.allowance import TOTAL
from buildkit_session.grpc.codec import BYTES
from buildkit_session.grpc.envelope import MAX_MESSAGE
from buildkit_session.grpc.router import Codecs, Route, Router, Subject, unary

if TYPE_CHECKING:
    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.interception import Interceptor
    from buildkit_session.grpc.served_call import ServedCall

pytestmark = pytest.mark.anyio

AT_ONCE = TOTAL // MAX_MESSAGE
LARGEST = bytes(MAX_MESSAGE)


class Service:
    """Takes messages and answers with their sizes; unary calls when they may."""

    def __init__(self) -> None:
        self.held = 0
        self.most = 0
        self.free = anyio.Event()

    def router(self) -> Router:
        subject = Subject(lambda _metadata, body: str(len(body)), needs_request=True)
        return Router(
            [
                Route("/test.Test/Call", unary(self._one), lambda _: Codecs(BYTES, BYTES), subject=subject),
                Route("/test.Test/Stream", self._all, lambda _: Codecs(BYTES, BYTES)),
            ]
        )

    async def _one(self, body: bytes) -> bytes:
        self.held += 1
        self.most = max(self.most, self.held)
        await self.free.wait()
        self.held -= 1
        return b"%d" % len(body)

    async def _all(self, call: IncomingCall[bytes, bytes]) -> None:
        while (body := await call.recv()) is not None:
            await call.send(b"%d" % len(body))


async def passing(_call: ServedCall, proceed: Any) -> None:
    await proceed()


@pytest.mark.parametrize("interceptors", [[], [passing]], ids=["plain", "intercepted"])
async def test_messages_that_do_not_come_to_their_end(interceptors: list[Interceptor]) -> None:
    """Few are taken in, small ones pass by them, and the others get their turn when those are given up."""
    service = Service()
    service.free.set()
    async with serving(service.router(), interceptors=interceptors) as peer:
        begun = [await peer.open(request(b"/test.Test/Call")) for _ in range(AT_ONCE + 3)]
        for stream in begun:
            await peer.send(stream, grpc_message(LARGEST)[:100_000])
        sizes = {}
        for stream in begun:
            with anyio.move_on_after(0.3):
                await peer.send(stream, LARGEST[: 1024 * 1024])
            sizes[stream] = peer.h2.local_flow_control_window(stream)
        assert [size > 0 for size in sizes.values()].count(True) == AT_ONCE
        assert (await peer.call(b"/test.Test/Call", b"abc")).bodies == [b"3"]
        for stream in begun:
            await peer.reset(stream)
        answer = await peer.call(b"/test.Test/Call", LARGEST)
        assert answer.bodies == [b"%d" % MAX_MESSAGE]


async def test_messages_that_are_worked_on_count() -> None:
    service = Service()
    async with serving(service.router()) as peer, anyio.create_task_group() as calls:
        for _ in range(AT_ONCE + 3):
            calls.start_soon(peer.call, b"/test.Test/Call", LARGEST)
        while service.held < AT_ONCE:  # noqa: ASYNC110 - as many bytes take their time
            await anyio.sleep(0.01)
        await peer.ping()
        service.free.set()
    assert service.most == AT_ONCE


async def test_streams_of_large_messages_do_not_wait_for_each_other() -> None:
    async with serving(Service().router()) as peer:
        answers = []

        async def stream() -> None:
            answers.append(await peer.call(b"/test.Test/Stream", *[LARGEST[: MAX_MESSAGE // 2]] * 3))

        async with anyio.create_task_group() as calls:
            for _ in range(2 * AT_ONCE + 1):
                calls.start_soon(stream)
    assert {tuple(answer.bodies) for answer in answers} == {(b"%d" % (MAX_MESSAGE // 2),) * 3}
