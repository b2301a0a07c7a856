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
