"""Credentials of registries, as callers write them down."""

from __future__ import annotations

import re
from typing import Any

import pytest

import buildkit_session as bk
from buildkit_session.registry_auth import make_auth
from buildkit_session.services.credentials import HUB


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


@pytest.mark.parametrize("given", ["ab", ("user",), ("user", "token", "more"), ("user", None), None])
def test_anything_else_is_refused_and_not_shown(given: Any) -> None:
    with pytest.raises(bk.InputError, match=r"must be a mapping such as \{'ghcr.io': \('user', 'token'\)\}"):
        bk.connect("unix:///nowhere", credentials={"docker.io": given})


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
