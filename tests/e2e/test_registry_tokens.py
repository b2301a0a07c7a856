"""A registry that wants tokens, with real daemons: whose token is used, for what, and when another is fetched."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Unpack

import anyio
import pytest

import buildkit_session as bk
from buildkit_session.errors import BuildError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from buildkit_session.testing import Daemon, Registry, TokenGrant, TokenServer

pytestmark = pytest.mark.anyio

DAEMONS = ["docker-20.10", "docker-newest", "docker-containerd", "buildkitd"]
OWN_PUSH = ("docker-20.10", "docker-newest")  # with the classic store: the Engine pushes, and fetches its own tokens
REFUSED = r"(?i)401|unauthorized|authorization|denied|insufficient_scope"


@pytest.fixture(params=DAEMONS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def address(name: str, request: pytest.FixtureRequest, engine_named: Callable[[str], Daemon]) -> str:
    if name == "buildkitd":
        return str(request.getfixturevalue("buildkitd").address)
    return engine_named(name).address


@pytest.fixture
def host(token_registry: tuple[Registry, TokenServer]) -> str:
    return token_registry[0].host


@pytest.fixture
def tokens(token_registry: tuple[Registry, TokenServer]) -> Iterator[TokenServer]:
    server = token_registry[1]
    server.passwords |= {"alice": "wonderland", "bob": "builder", "public": "hunter2"}
    yield server
    server.passwords.clear()
    server.granted.clear()
    server.refused.clear()
    server.life, server.way = 300, "oauth"


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(busybox, context / "busybox")
    (context / "file").write_text(str(tmp_path))
    return context


async def push_base(client: bk.Client, context: Path, image: str, user: str, password: str) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY busybox file /bin/\n")
    login = {image.partition("/")[0]: (user, password)}
    await client.build(context, tags=image, push=True, credentials=login)


def taken(tokens: TokenServer) -> list[TokenGrant]:
    """What was granted since this was last asked."""
    granted = list(tokens.granted)
    tokens.granted.clear()
    return granted


def fetched_here(grant: TokenGrant) -> bool:
    return "aiohttp" in grant.agent


async def test_tokens_and_a_password_that_end_during_a_build(
    name: str, address: str, host: str, tokens: TokenServer, context: Path
) -> None:
    """The push and the export of the cache get new ones; BuildKit sees no password."""
    base, app, cache = (f"{host}/alice/{name}-{part}" for part in ("base", "app", "cache"))
    asked: list[str] = []

    async def fetch(asked_for: str) -> bk.Credentials:
        asked.append(asked_for)
        return bk.Credentials("alice", tokens.passwords["alice"], expires_at=datetime.now(UTC) + timedelta(seconds=4))

    def change_password(event: object) -> None:
        if isinstance(event, bk.Vertex) and "sleep" in event.name and event.started:
            tokens.passwords["alice"] = "changed"

    async with bk.connect(address, credentials=fetch) as client:
        await push_base(client, context, base, "alice", "wonderland")
        taken(tokens)
        tokens.life = 2
        (context / "Dockerfile").write_text(f'FROM {base}\nRUN ["/bin/busybox", "sleep", "5"]\n')
        cached = () if name in OWN_PUSH else f"type=registry,ref={cache},mode=max"
        result = await client.build(
            context, tags=app, push=True, pull=True, network="none", cache_to=cached, on_event=change_password
        )
        assert result.metadata["containerimage.digest"]
        granted = taken(tokens)
        assert not tokens.refused
        assert set(asked) == {host}
        pulls = [grant for grant in granted if grant.scopes == (f"repository:alice/{name}-base:pull",)]
        written = ("pull,push", "push,pull")  # the Engine has the second order
        pushed = {f"repository:alice/{name}-app:{actions}" for actions in written}
        pushes = [grant for grant in granted if pushed.intersection(grant.scopes)]
        assert {grant.user for grant in granted} == {"alice"}
        assert max(grant.at for grant in pulls) + tokens.life < min(grant.at for grant in pushes)
        assert all(map(fetched_here, pulls))
        assert all(map(fetched_here, pushes)) == (name not in OWN_PUSH)
        if name in OWN_PUSH:
            return
        assert any(scope == f"repository:alice/{name}-cache:pull,push" for grant in granted for scope in grant.scopes)
        (context / "Dockerfile").write_text(f"FROM {base}\nCOPY file /again\n")
        again = await client.build(context, cache_from=f"type=registry,ref={cache}", outputs=bk.output.cacheonly())
        assert not again.warnings
        granted = taken(tokens)
        assert any(grant.scopes == (f"repository:alice/{name}-cache:pull",) for grant in granted)
        assert all(map(fetched_here, granted))


async def test_tenants_share_no_token(name: str, address: str, host: str, tokens: TokenServer, context: Path) -> None:
    """A daemon keeps the token of each; who cannot show the key of its owner gets one of his own, or none."""
    base, other = f"{host}/alice/{name}-tenant", f"{host}/bob/{name}-tenant"
    alice, bob = {host: ("alice", "wonderland")}, {host: ("bob", "builder")}
    discarded = () if name in OWN_PUSH else bk.output.cacheonly()

    async def pull(**credentials: Unpack[bk.BuildKeywords]) -> None:
        keywords = bk.BuildKeywords(pull=True, no_cache=True, outputs=discarded)
        keywords.update(credentials)
        await client.build(context, **keywords)

    async with bk.connect(address, credentials=alice) as client:
        await push_base(client, context, base, "alice", "wonderland")
        await push_base(client, context, other, "bob", "builder")
        taken(tokens)
        (context / "Dockerfile").write_text(f"FROM {base}\nCOPY file /\n")
        await pull()
        assert {grant.user for grant in taken(tokens)} == {"alice"}
        await pull()
        assert not taken(tokens), "the daemon has forgotten the token, so the rest of this test shows nothing"
        nobodies: tuple[dict[str, tuple[str, str]] | None, ...] = (None, {})
        for nobody in nobodies:
            with pytest.raises(BuildError, match=REFUSED):
                await pull(credentials=nobody)
            assert {grant.user for grant in taken(tokens)} == {""}
        with pytest.raises(BuildError, match=REFUSED):
            await pull(credentials=bob)
        assert {grant.user for grant in taken(tokens)} == {"bob"}
        (context / "Dockerfile").write_text(f"FROM {other}\nCOPY file /\n")
        await pull(credentials=bob)
        assert {grant.user for grant in taken(tokens)} == {"bob"}
        with pytest.raises(BuildError, match=REFUSED):
            await pull()
        assert {grant.user for grant in taken(tokens)} == {"alice"}
        async with anyio.create_task_group() as at_once:
            for owner, login in (("alice", alice), ("bob", bob)):
                file = context / f"Dockerfile.{owner}"
                file.write_text(f"FROM {host}/{owner}/{name}-tenant\nCOPY file /{owner}\n")
                keywords = bk.BuildKeywords(credentials=login, pull=True, no_cache=True, outputs=discarded)
                at_once.start_soon(partial(client.build, context, file=file, **keywords))
        granted = taken(tokens)
        assert {(grant.user, *grant.scopes) for grant in granted} == {
            (owner, f"repository:{owner}/{name}-tenant:pull") for owner in ("alice", "bob")
        }
        assert not tokens.refused


async def test_a_server_without_oauth_and_what_everybody_may_pull(
    c8d_daemon: Daemon, host: str, tokens: TokenServer, context: Path
) -> None:
    """A password goes as HTTP has it then. Without credentials nobody proves anything, whoever fetches the token."""
    tokens.way = "basic"
    image = f"{host}/public/base"
    async with bk.connect(c8d_daemon.address) as client:
        await push_base(client, context, image, "public", "hunter2")
        granted = taken(tokens)
        assert {(grant.method, grant.user, fetched_here(grant)) for grant in granted} == {("GET", "public", True)}
        (context / "Dockerfile").write_text(f"FROM {image}\nCOPY file /\n")
        nobodies: tuple[tuple[dict[str, tuple[str, str]] | None, bool], ...] = (({}, True), (None, False))
        for nobody, here in nobodies:
            await client.build(context, credentials=nobody, pull=True, no_cache=True, outputs=bk.output.cacheonly())
            granted = taken(tokens)
            assert {(grant.user, fetched_here(grant)) for grant in granted} == {("", here)}
            with pytest.raises((BuildError, EngineError), match=REFUSED):
                await client.build(context, credentials=nobody, tags=f"{host}/public/other", push=True)
            taken(tokens)
