"""A connection that the next one to need it takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scripted_server import scripted

from buildkit_session.engine import daemon as daemon_module
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.engine.hijack import hijack
from buildkit_session.engine.spare import Spare

if TYPE_CHECKING:
    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio


async def test_it_is_taken_once() -> None:
    async with scripted() as server:
        spare = Spare()
        spare.keep(server.connection)
        assert spare.take() is server.connection
        assert spare.take() is None
        await spare.aclose()
        assert not server.connection.closed.is_set()


async def test_one_whose_peer_has_gone_is_not_taken() -> None:
    async with scripted() as server:
        spare = Spare()
        spare.keep(server.connection)
        server.connection.abort()
        await server.connection.closed.wait()
        assert spare.take() is None


async def test_it_is_closed_when_nobody_takes_it_soon() -> None:
    async with scripted() as server:
        Spare(life=0.01).keep(server.connection)
        with anyio.fail_after(10):
            await server.connection.closed.wait()


async def test_one_that_was_taken_is_left_alone() -> None:
    async with scripted() as server:
        spare = Spare(life=0.01)
        spare.keep(server.connection)
        spare.take()
        await anyio.sleep(0.1)
        assert not server.connection.closed.is_set()


async def test_closing_closes_it() -> None:
    async with scripted() as server:
        spare = Spare()
        spare.keep(server.connection)
        await spare.aclose()
        assert server.connection.closed.is_set()


async def test_the_first_link_has_the_connection_that_found_the_way(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    async def counted(*args: Any) -> Any:
        opened.append(await hijack(*args))
        return opened[-1]

    monkeypatch.setattr(daemon_module, "hijack", counted)
    asked = daemon_module.Daemon(find_endpoint(daemon.address))
    await asked.info()
    async with asked.link() as first, asked.link() as second:
        assert len(opened) == 2
        assert await first.control.list_workers() == await second.control.list_workers()
    await asked.aclose()
    assert all(connection.closed.is_set() for connection in opened)


async def test_a_daemon_that_is_only_asked_is_left_without_connections(daemon: Daemon) -> None:
    asked = daemon_module.Daemon(find_endpoint(daemon.address))
    await asked.info()
    kept = asked._spare._kept
    assert kept is not None
    await asked.aclose()
    assert kept.closed.is_set()
