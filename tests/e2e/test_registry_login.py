"""A base image from a registry that wants a password."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from registry import Registry, TokenRegistry, running
from service_builds import build, shared

from buildkit_session.engine.web import AiohttpWeb
from buildkit_session.errors import BuildError, InputError
from buildkit_session.services.auth import Auth
from buildkit_session.services.credentials import Credentials, StaticCredentials
from buildkit_session.services.docker_config import DockerConfig
from buildkit_session.services.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from buildkit_session.services.credentials import CredentialSource
    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

BASIC = b64encode(b"alice:hunter2").decode()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "context").mkdir()
    return tmp_path / "context"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running(Registry(f"Basic {BASIC}")) as registry:
        yield registry


async def build_from(
    daemon: Daemon, context: Path, registry: Registry, source: CredentialSource, *, tokens: Tokens | None = None
) -> None:
    (context / "Dockerfile").write_text(f"FROM {registry.host}/team/base\nCOPY Dockerfile /\n")
    with shared(context) as directory:
        await build(daemon, [directory, Auth(source, tokens=tokens)])


async def test_a_password_of_the_caller(daemon: Daemon, context: Path, registry: Registry) -> None:
    known = StaticCredentials({registry.host: Credentials("alice", "hunter2")})
    await build_from(daemon, context, registry, known)
    assert registry.asked[0] is None
    assert registry.asked[-1] == f"Basic {BASIC}"


async def test_the_login_of_docker(daemon: Daemon, context: Path, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": BASIC}}}))
    await build_from(daemon, context, registry, DockerConfig({"DOCKER_CONFIG": str(tmp_path)}))
    assert registry.asked[-1] == f"Basic {BASIC}"


async def test_an_unknown_host(daemon: Daemon, context: Path, registry: Registry) -> None:
    """The registry's own refusal is the error."""
    with pytest.raises(BuildError, match=r"(?i)401|unauthorized|authorization") as caught:
        await build_from(daemon, context, registry, StaticCredentials({}))
    assert caught.value.__cause__ is None
    assert caught.value.advice.startswith(f"log in to {registry.host} by credentials=")
    assert set(registry.asked) == {None}


async def test_a_broken_configuration(daemon: Daemon, context: Path, registry: Registry, tmp_path: Path) -> None:
    """It ends the build, and the caller learns which file it is."""
    (tmp_path / "config.json").write_text('{"auths": {"x": "hunter2"')
    with pytest.raises(BuildError) as caught:
        await build_from(daemon, context, registry, DockerConfig({"DOCKER_CONFIG": str(tmp_path)}))
    assert str(tmp_path) not in str(caught.value)
    assert isinstance(caught.value.__cause__, InputError)
    assert str(tmp_path / "config.json") in str(caught.value.__cause__)


@pytest.fixture
def scripted_registry() -> Iterator[TokenRegistry]:
    with running(TokenRegistry("hunter2")) as registry:
        yield registry


def tokens(home: Path) -> Tokens:
    found = Tokens.of_environment({"HOME": str(home)}, AiohttpWeb())
    assert found is not None
    return found


async def test_a_token_is_fetched_on_this_side(
    daemon: Daemon, tmp_path: Path, context: Path, scripted_registry: TokenRegistry
) -> None:
    """The daemon never sees the password: it has no connection to the token server."""
    known = StaticCredentials({scripted_registry.host: Credentials("alice", "hunter2")})
    await build_from(daemon, context, scripted_registry, known, tokens=tokens(tmp_path))
    assert scripted_registry.asked[-1] == "Bearer the-token"
    assert {form["username"] for form in scripted_registry.sent} == {"alice"}
    assert all(form["client_id"] == "buildkit-client" for form in scripted_registry.sent)


async def test_a_daemon_shares_a_token_with_who_has_the_key(
    daemon: Daemon, tmp_path: Path, context: Path, scripted_registry: TokenRegistry
) -> None:
    """The next session of the same user proves itself, and no token is fetched again."""
    known = StaticCredentials({scripted_registry.host: Credentials("alice", "hunter2")})
    await build_from(daemon, context, scripted_registry, known, tokens=tokens(tmp_path))
    fetched = len(scripted_registry.sent)
    await build_from(daemon, context, scripted_registry, known, tokens=tokens(tmp_path))
    assert len(scripted_registry.sent) == fetched
    await build_from(daemon, context, scripted_registry, known, tokens=tokens(tmp_path / "another"))
    assert len(scripted_registry.sent) > fetched


async def test_the_token_servers_refusal_is_shown(
    daemon: Daemon, tmp_path: Path, context: Path, scripted_registry: TokenRegistry
) -> None:
    known = StaticCredentials({scripted_registry.host: Credentials("alice", "wrong-secret")})
    with pytest.raises(BuildError, match=r"failed to fetch oauth token: .*DENIED: wrong password") as caught:
        await build_from(daemon, context, scripted_registry, known, tokens=tokens(tmp_path))
    assert "wrong-secret" not in str(caught.value)
