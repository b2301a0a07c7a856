"""Builds with services of the test's choice, which :class:`buildkit_session.Client` does not offer by itself."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from buildkit_session.engine.build_params import BuildParams
from buildkit_session.engine.client import EngineClient
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.hijack import hijack
from buildkit_session.grpc.channel import Channel
from buildkit_session.http2.client_connection import ClientConnection
from buildkit_session.messages.moby.buildkit.v1 import SolveRequest, SolveResponse
from buildkit_session.services.filesync import FileSync
from buildkit_session.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from buildkit_session.engine.events import ProgressEvent
    from buildkit_session.http2.connection import Connection
    from buildkit_session.services import Service
    from buildkit_session.testing import Daemon


@contextmanager
def shared(context: Path) -> Iterator[FileSync]:
    """The directory as context, its Dockerfile included."""
    descriptor = os.open(context, os.O_RDONLY)
    try:
        yield FileSync({"context": descriptor, "dockerfile": descriptor})
    finally:
        os.close(descriptor)


async def build(daemon: Daemon, services: Iterable[Service], **params: Any) -> list[ProgressEvent]:
    """Run a build without network and return its events.

    Raises:
        BuildError: it failed; where a call of the daemon failed on this side first, that is its cause.
    """
    session = Session(services)

    async def dial(headers: list[tuple[str, str]], make_connection: Callable[[], Connection]) -> Connection:
        return await hijack(engine.endpoint, await engine.path("/session"), headers, make_connection)

    async with EngineClient(find_endpoint(daemon.address)) as engine, session.serving(dial):
        asked = BuildParams(build_id=secrets.token_hex(16), session=session.id, network="none", no_cache=True, **params)
        async with engine.build(asked) as stream:
            try:
                return [event async for event in stream]
            except Exception as error:
                raise error from session.own_failure


async def solve(daemon: Daemon, services: Iterable[Service], **fields: Any) -> dict[str, str]:
    """Run a Dockerfile build over the control API, without network; returns the exporter's response.

    Raises:
        RpcError: it failed; with the cause as for :func:`build`.
    """
    session = Session(services)

    async def dial(headers: list[tuple[str, str]], make_connection: Callable[[], Connection]) -> Connection:
        return await hijack(engine.endpoint, await engine.path("/session"), headers, make_connection)

    async with EngineClient(find_endpoint(daemon.address)) as engine, session.serving(dial):
        connection = ClientConnection()
        await hijack(engine.endpoint, await engine.path("/grpc"), [], lambda: connection)
        fields["frontend_attrs"] = {"force-network-mode": "none", **fields.get("frontend_attrs", {})}
        for exporter in fields.get("exporters", ())[:1]:  # BuildKit before 0.13 knows of one
            fields.update(exporter_deprecated=exporter.type, exporter_attrs_deprecated=exporter.attrs)
        request = SolveRequest(ref=secrets.token_hex(8), session=session.id, frontend="dockerfile.v0", **fields)
        try:
            answer = await Channel(connection).unary("/moby.buildkit.v1.Control/Solve", request, SolveResponse)
        except Exception as error:
            raise error from session.own_failure
        finally:
            connection.close()
        return answer.exporter_response
