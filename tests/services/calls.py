"""Calls for services, without a connection: the messages are a list, the answers too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio

from buildkit_session.errors import StreamReset
from buildkit_session.grpc.metadata import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.services import Service

RESET = StreamReset(8, by="peer")


class ScriptedCall:
    """Hands out batches of messages; an exception among them is raised in its turn. After the last, the end.

    Answers are kept in ``sent``. With ``stalled`` the messages are followed by silence.
    """

    method = "/a.Service/Method"

    def __init__(
        self, *batches: list[Any] | Exception, metadata: Iterable[tuple[bytes, bytes]] = (), stalled: bool = False
    ) -> None:
        self.metadata = Metadata(metadata)
        self.sent: list[Any] = []
        self._batches = list(batches)
        self._stalled = stalled

    async def recv_many(self) -> list[Any]:
        await anyio.lowlevel.checkpoint()
        if self._batches:
            batch = self._batches.pop(0)
            if isinstance(batch, Exception):
                raise batch
            return batch
        if self._stalled:
            await anyio.sleep_forever()
        return []

    async def recv(self) -> Any:
        batch = await self.recv_many()
        if len(batch) > 1:
            self._batches.insert(0, batch[1:])
        return batch[0] if batch else None

    async def send(self, message: Any) -> None:
        await self.send_many([message])

    async def send_many(self, messages: Sequence[Any]) -> None:
        self.sent += messages


async def serve(service: Service, method: str, call: ScriptedCall) -> list[Any]:
    """Serve one call by the method's route; returns the answers."""
    (route,) = [route for route in service.routes() if route.path.endswith(f"/{method}")]
    route.select(call.metadata)
    with anyio.fail_after(60):
        await route.handler(cast("IncomingCall[Any, Any]", call))
    return call.sent
