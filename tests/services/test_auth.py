"""Credentials by host, and nothing about any other."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from calls import ScriptedCall, serve

from buildkit_session.errors import CallbackError, RpcError
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.filesync.v1 import (
    CredentialsRequest,
    FetchTokenRequest,
    GetTokenAuthorityRequest,
    VerifyTokenAuthorityRequest,
)
from buildkit_session.services import auth_calls
from buildkit_session.services.auth import Auth
from buildkit_session.services.credentials import Credentials, StaticCredentials, registry_host
from buildkit_session.services.token_authority import TokenAuthority
from buildkit_session.services.token_fetch import Reply, TokenClient
from buildkit_session.services.token_seeds import TokenSeeds
from buildkit_session.services.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

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


async def test_a_broken_source_is_named_by_its_type_alone() -> None:
    class Broken:
        async def find(self, host: str, /) -> Credentials | None:
            raise RuntimeError(f"hunter2 of {host}")

    with pytest.raises(CallbackError, match=r"for reg\.example, raised RuntimeError$"):
        await ask(Auth(Broken()), "reg.example")


async def test_nothing_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """AU-04: the username neither, as some registries take a token there."""
    caplog.set_level(logging.DEBUG)
    await ask(Auth(StaticCredentials({"a": ALICE})), "a")
    assert repr(ALICE) == "<Credentials password>"
    assert "'a'" in caplog.text
    assert "hunter2" not in caplog.text
    assert "alice" not in caplog.text


SALT, PAYLOAD = b"\1" * 32, b"\2" * 32
ANONYMOUS_KEY = "4a134baf59c70e1a8295638371dbf9f4f365b8a78303f5e87be5c1eaad37588c"


class Web:
    """A token server that takes any password."""

    asked: int = 0

    async def send(self, *_: object, **__: object) -> Reply:
        self.asked += 1
        return Reply(200, b'{"access_token": "t", "expires_in": 300}')


def fetching(tmp_path: Path, web: Web, known: dict[str, Credentials], hosts: list[str] | None = None) -> Auth:
    tokens = Tokens(TokenAuthority(TokenSeeds(tmp_path)), TokenClient(web))
    return Auth(StaticCredentials(known), tokens=tokens, hosts=hosts)


async def key(service: Auth, host: str) -> bytes:
    asked = ScriptedCall([GetTokenAuthorityRequest(host=host, salt=SALT)])
    (answer,) = await serve(service, "GetTokenAuthority", asked)
    (proof,) = await serve(
        service, "VerifyTokenAuthority", ScriptedCall([VerifyTokenAuthorityRequest(host, PAYLOAD, SALT)])
    )
    assert len(answer.public_key) == 32
    assert proof.signed[64:] == PAYLOAD
    return cast("bytes", answer.public_key)


async def test_a_token_is_fetched_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And shown nowhere."""
    caplog.set_level(logging.DEBUG)
    service = fetching(tmp_path, Web(), {"a": ALICE})
    request = FetchTokenRequest("buildkit-client", "a", "https://auth.example/", "reg", ["repository:x:pull"])
    (answer,) = await serve(service, "FetchToken", ScriptedCall([request]))
    assert (answer.token, answer.expires_in, answer.issued_at) == ("t", 300, 0)
    assert "token for 'a', 300 s" in caplog.text


async def test_who_has_credentials_shares_no_key_with_who_has_none(tmp_path: Path) -> None:
    """A ready token counts; everybody without credentials has the same key, and no seed is kept for that."""
    known = {"a": ALICE, "b": Credentials("", "", "", "ready"), "c": Credentials("carol")}
    service = fetching(tmp_path, Web(), known)
    nobody = fetching(tmp_path / "other", Web(), {})
    keys = {host: await key(service, host) for host in "abcd"}
    assert len({keys["a"], keys["b"], keys["c"]}) == 3
    assert keys["c"] == keys["d"] == await key(nobody, "a")
    assert not (tmp_path / "other").exists()
    assert keys == {host: await key(fetching(tmp_path, Web(), known), host) for host in "abcd"}


@pytest.mark.parametrize(
    ("method", "request_type"),
    [
        ("GetTokenAuthority", GetTokenAuthorityRequest),
        ("VerifyTokenAuthority", VerifyTokenAuthorityRequest),
        ("FetchToken", FetchTokenRequest),
    ],
)
async def test_without_tokens_the_daemon_asks_for_credentials(tmp_path: Path, method: str, request_type: Any) -> None:
    """AU-17: and so it does for a host that is not served, to which nothing is sent from here."""
    web = Web()
    for service in (Auth(StaticCredentials({"a": ALICE})), fetching(tmp_path, web, {"a": ALICE}, hosts=["b"])):
        with pytest.raises(RpcError) as caught:
            await serve(service, method, ScriptedCall([request_type(host="a")]))
        assert caught.value.code == Status.UNAVAILABLE
    assert not web.asked


async def test_other_credentials_of_one_client_have_another_key() -> None:
    """No token of an account that was used before is used again; the same account is known again."""
    tokens = Tokens.of_one_client(Web())
    accounts = [
        Credentials("alice", "a"),
        Credentials("alice", "b"),
        Credentials("", "", "a"),
        Credentials("a", "lice"),
    ]
    keys = [tokens.public_key("a", SALT, found) for found in accounts]
    assert len(set(keys)) == 4
    assert keys[0] == tokens.public_key("a", SALT, Credentials("alice", "a", expires_at=datetime.now(UTC)))
    assert keys[0] != tokens.public_key("b", SALT, accounts[0])
    assert keys[0] != Tokens.of_one_client(Web()).public_key("a", SALT, accounts[0])
    assert tokens.public_key("a", SALT, None).hex() == ANONYMOUS_KEY == tokens.public_key("b", SALT, None).hex()


@pytest.mark.parametrize("method", ["Credentials", "FetchToken", "GetTokenAuthority", "VerifyTokenAuthority"])
async def test_a_call_ends_before_the_daemon_loses_patience(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """However long its parts take, which have limits of their own."""

    class Silent:
        async def find(self, _host: str, /) -> Credentials | None:
            await anyio.sleep_forever()
            return None

    assert auth_calls.PATIENCE < 60
    monkeypatch.setattr(auth_calls, "PATIENCE", 0.1)
    requests = {
        "Credentials": CredentialsRequest("a"),
        "FetchToken": FetchTokenRequest(host="a"),
        "GetTokenAuthority": GetTokenAuthorityRequest("a", SALT),
        "VerifyTokenAuthority": VerifyTokenAuthorityRequest("a", PAYLOAD, SALT),
    }
    with pytest.raises(RpcError, match=r"was not there within 0\.1 s"):
        await serve(Auth(Silent(), tokens=Tokens.of_one_client(Web())), method, ScriptedCall([requests[method]]))


async def test_tokens_of_an_environment(tmp_path: Path) -> None:
    """The seeds are in docker's directory; a variable of BuildKit's switches it all off."""
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    tokens = Tokens.of_environment({**environ, "BUILDKIT_NO_CLIENT_TOKEN": "no"}, Web())
    assert tokens is not None
    await key(Auth(StaticCredentials({"a": ALICE}), tokens=tokens), "a")
    assert (tmp_path / ".token_seed").exists()
    assert Tokens.of_environment({**environ, "BUILDKIT_NO_CLIENT_TOKEN": "1"}, Web()) is None
