"""Credentials by host, and nothing about any other."""

from __future__ import annotations

import logging

import pytest
from calls import ScriptedCall, serve

from buildkit_session.errors import InputError
from buildkit_session.messages.moby.filesync.v1 import CredentialsRequest
from buildkit_session.services.auth import Auth, Credentials, FirstOf, StaticCredentials, registry_host

pytestmark = pytest.mark.anyio

ALICE = Credentials("alice", "hunter2")


async def ask(service: Auth, host: str) -> tuple[str, str]:
    (answer,) = await serve(service, "Credentials", ScriptedCall([CredentialsRequest(host=host)]))
    return answer.username, answer.secret


async def test_a_known_host() -> None:
    assert await ask(Auth(StaticCredentials({"reg.example:5000": ALICE})), "reg.example:5000") == ("alice", "hunter2")


@pytest.mark.parametrize(
    "host", ["", "reg.example", "reg.example:443", "REG.example:5000", "a.reg.example:5000", "example:5000"]
)
async def test_an_unknown_host_gets_an_empty_answer(host: str) -> None:
    """AU-07, AU-08: ports are kept, nothing else is the same."""
    assert await ask(Auth(StaticCredentials({"reg.example:5000": ALICE})), host) == ("", "")


@pytest.mark.parametrize(
    "name", ["docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"]
)
async def test_docker_hub_has_many_names(name: str) -> None:
    assert await ask(Auth(StaticCredentials({name: ALICE})), "registry-1.docker.io") == ("alice", "hunter2")


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("https://reg.example:5000/v2/", "reg.example:5000"),
        ("http://reg.example", "reg.example"),
        ("reg.example/team/image", "reg.example"),
        ("docker.io.example", "docker.io.example"),
        ("docker.io:443", "docker.io:443"),
    ],
)
def test_names_of_registries(name: str, host: str) -> None:
    assert registry_host(name) == host


async def test_an_identity_token_goes_without_a_username() -> None:
    known = {"a": Credentials("alice", "hunter2", "t0ken"), "b": Credentials("", "", "", "r")}
    service = Auth(StaticCredentials(known))
    assert await ask(service, "a") == ("", "t0ken")
    assert await ask(service, "b") == ("", "")


async def test_hosts_outside_the_list_are_not_asked_about() -> None:
    class Source:
        asked: list[str] = []  # noqa: RUF012

        async def find(self, host: str, /) -> Credentials | None:
            self.asked.append(host)
            return ALICE

    service = Auth(Source(), hosts=["docker.io"])
    assert await ask(service, "evil.example") == ("", "")
    assert await ask(service, "registry-1.docker.io") == ("alice", "hunter2")
    assert Source.asked == ["registry-1.docker.io"]


async def test_sources_are_asked_in_turn() -> None:
    bob = Credentials("bob", "b")
    service = Auth(FirstOf(StaticCredentials({"a": ALICE}), StaticCredentials({"a": bob, "b": bob})))
    assert await ask(service, "a") == ("alice", "hunter2")
    assert await ask(service, "b") == ("bob", "b")
    assert await ask(service, "c") == ("", "")


async def test_a_broken_source_is_named_by_its_type_alone() -> None:
    class Broken:
        async def find(self, host: str, /) -> Credentials | None:
            raise RuntimeError(f"hunter2 of {host}")

    with pytest.raises(InputError, match=r"for reg\.example: RuntimeError$"):
        await ask(Auth(Broken()), "reg.example")


async def test_nothing_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """AU-04: the username neither, as some registries take a token there."""
    caplog.set_level(logging.DEBUG)
    await ask(Auth(StaticCredentials({"a": ALICE})), "a")
    assert repr(ALICE) == "<Credentials password>"
    assert "'a'" in caplog.text
    assert "hunter2" not in caplog.text
    assert "alice" not in caplog.text
