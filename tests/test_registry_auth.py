"""Credentials of registries, as callers write them down."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

import buildkit_session as bk
from buildkit_session.registry_auth import make_auth
from buildkit_session.services.credentials import HUB

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("user", "token"), bk.Credentials("user", "token")),
        (bk.Credentials("", "secret"), bk.Credentials("", "secret")),
    ],
)
@pytest.mark.anyio
async def test_a_mapping_has_pairs_or_credentials(given: Any, expected: bk.Credentials) -> None:
    auth = make_auth({"docker.io": given})
    assert auth is not None
    assert await auth.find(HUB) == expected
    assert await auth.find("elsewhere.example") is None


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ("hunter2", "a str"),
        (("hunter2",), "(str)"),
        (("user", "hunter2", "more"), "(str, str, str)"),
        (("user", None), "(str, NoneType)"),
        (None, "a NoneType"),
    ],
)
def test_anything_else_is_refused_and_not_shown(given: Any, shape: str) -> None:
    message = (
        f"what is given for 'docker.io' is {shape}; use a pair of texts such as ('user', 'token'), bk.Credentials("
    )
    with pytest.raises(bk.InputError, match=re.escape(message)) as caught:
        bk.connect("unix:///nowhere", credentials={"docker.io": given})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "a method find(), not be an int"),
        ("ghcr.io", "not be a str"),
        (["ghcr.io"], "not be a list"),
        (bk.DockerConfig, "write DockerConfig()"),
        ({5: ("user", "token")}, "not by 5"),
        ({"https:///v2": ("user", "token")}, "not by 'https:///v2'"),
    ],
)
def test_what_is_no_source_of_credentials(given: Any, message: str) -> None:
    with pytest.raises(bk.InputError, match=re.escape(message)):
        bk.connect("unix:///nowhere", credentials=given)


@pytest.mark.anyio
async def test_a_registry_may_be_named_by_its_url() -> None:
    auth = make_auth({"https://ghcr.io/v2": ("user", "token")})
    assert auth is not None
    assert await auth.find("ghcr.io") == bk.Credentials("user", "token")


@pytest.mark.anyio
async def test_logins_of_two_directories_share_no_keys(tmp_path: Path) -> None:
    """Each has the seeds of its own docker directory, whichever the program's own is."""
    keys = []
    for name in ("a", "b", "a"):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        (directory / "config.json").write_text('{"auths": {"reg.example": {"username": "alice", "password": "x"}}}')
        auth = make_auth(bk.DockerConfig({"DOCKER_CONFIG": str(directory), "PATH": ""}))
        assert auth is not None
        found = await auth.find("reg.example")
        keys.append(auth.tokens("reg.example").public_key("reg.example", b"\1" * 32, found))
        assert (directory / ".token_seed").exists()
    assert keys[0] == keys[2] != keys[1]


def test_the_environment_leaves_tokens_to_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """AU-17: whoever the credentials come from."""
    monkeypatch.setenv("BUILDKIT_NO_CLIENT_TOKEN", "true")
    for given in ({"a": ("user", "token")}, bk.DockerConfig({"HOME": "/", "BUILDKIT_NO_CLIENT_TOKEN": "1"})):
        auth = make_auth(given)
        assert auth is not None
        with pytest.raises(bk.RpcError, match="client side tokens disabled"):
            auth.tokens("a")


def test_a_builds_own_credentials_are_checked_before_anything_is_sent() -> None:
    with pytest.raises(bk.InputError, match="must be a mapping"):
        asyncio.run(bk.connect("unix:///nowhere").build(".", credentials=5))  # type: ignore[arg-type]


def test_a_misspelt_argument_is_told() -> None:
    with pytest.raises(TypeError, match=r"did you mean credentials\?"):
        asyncio.run(bk.connect("unix:///nowhere").build(".", credential={}))  # type: ignore[call-arg]
