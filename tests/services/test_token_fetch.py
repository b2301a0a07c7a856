"""Tokens from servers that behave, and from others."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from buildkit_session.errors import RpcError
from buildkit_session.services.credentials import Credentials
from buildkit_session.services.token_fetch import MAX_REPLY, Reply, Token, TokenClient, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio

ALICE = Credentials("alice", "hunter2")
REQUEST = TokenRequest(
    "reg.example", "https://auth.example/token?a=b", "reg", ("repository:x:pull", "repository:y:pull")
)
BASIC = "Basic YWxpY2U6aHVudGVyMg=="


class Server:
    """Gives its answers in turn, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Mapping[str, str], dict[str, str]]] = []

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, max_body: int
    ) -> Reply:
        assert max_body == MAX_REPLY
        self.asked.append((method, url, headers, dict(parse_qsl((body or b"").decode()))))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else Reply(200, json.dumps(answer).encode())


async def fetch(server: Server, credentials: Credentials | None = ALICE, **fields: Any) -> Token:
    return await TokenClient(server).fetch(replace(REQUEST, **fields), credentials)


async def failure(server: Server, credentials: Credentials | None = ALICE, **fields: Any) -> str:
    with pytest.raises(RpcError) as caught:
        await fetch(server, credentials, **fields)
    assert "hunter2" not in caught.value.message
    return caught.value.message


async def test_a_password_is_posted() -> None:
    server = Server({"access_token": "t", "expires_in": 300})
    assert await fetch(server) == Token("t", 300)
    ((method, url, headers, form),) = server.asked
    assert (method, url) == ("POST", REQUEST.realm)
    assert "Authorization" not in headers
    assert form == {
        "grant_type": "password",
        "service": "reg",
        "client_id": "buildkit-client",
        "scope": "repository:x:pull repository:y:pull",
        "username": "alice",
        "password": "hunter2",
    }


async def test_an_identity_token_is_a_refresh_token() -> None:
    server = Server({"access_token": "t"})
    await fetch(server, Credentials("alice", "hunter2", "idtoken"))
    form = server.asked[0][3]
    assert (form["grant_type"], form["refresh_token"]) == ("refresh_token", "idtoken")
    assert not form.keys() & {"username", "password"}


async def test_a_registry_token_is_passed_on() -> None:
    assert await fetch(Server(), Credentials("", "", "", "ready")) == Token("ready", 60)
    for left, life in ((3600, 60), (30, 29), (-5, 2)):
        ready = Credentials("", "", "", "ready", expires_at=datetime.now(UTC) + timedelta(seconds=left))
        assert life - 5 <= (await fetch(Server(), ready)).life <= life


@pytest.mark.parametrize("credentials", [None, Credentials(), Credentials("alice")])
async def test_without_a_secret_nothing_is_proven(credentials: Credentials | None) -> None:
    server = Server({"token": "t"})
    assert (await fetch(server, credentials)).text == "t"
    ((method, url, headers, _),) = server.asked
    assert (method, dict(headers)) == ("GET", {})
    assert parse_qsl(urlsplit(url).query) == [
        ("a", "b"),
        ("service", "reg"),
        ("scope", "repository:x:pull"),
        ("scope", "repository:y:pull"),
    ]


@pytest.mark.parametrize("status", [401, 404, 405])
async def test_a_server_of_the_older_way(status: int) -> None:
    """AU-15: it may call the token by its older name too."""
    server = Server(Reply(status, b""), {"token": "t"})
    assert (await fetch(server)).text == "t"
    assert [(method, headers.get("Authorization")) for method, _, headers, _ in server.asked] == [
        ("POST", None),
        ("GET", BASIC),
    ]


@pytest.mark.parametrize("status", [400, 403, 500, 503])
async def test_other_failures_are_final(status: int) -> None:
    """AU-15."""
    assert f"unexpected status {status}" in await failure(Server(Reply(status, b"hunter2")))


async def test_405_is_final_for_an_identity_token() -> None:
    assert "405" in await failure(Server(Reply(405, b"")), Credentials("", "", "idtoken"))


async def test_the_registrys_reasons_are_shown() -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "no\x1b[2J such " + "x" * 1000}, 7]}).encode()
    text = await failure(Server(Reply(403, body)))
    assert text.startswith("failed to fetch oauth token: unexpected status 403; DENIED: no\\x1b[2J such")
    assert len(text) < 400


@pytest.mark.parametrize(
    "answer",
    [
        {"token": "only by the older name"},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "two\r\nlines"},
        Reply(200, b""),
        Reply(200, b"[]"),
        Reply(200, b"[" * 100_000),
    ],
)
async def test_an_answer_without_a_token(answer: Any) -> None:
    assert "did not include a token" in await failure(Server(answer))


async def test_an_endless_answer() -> None:
    """AU-15."""
    assert "more than" in await failure(Server(Reply(200, b"x" * (MAX_REPLY + 1))))


@pytest.mark.parametrize(
    ("expires", "age", "life"),
    [
        (300, None, 300),
        (None, None, 60),
        (0, None, 60),
        (1, None, 2),
        (-5, None, 2),
        ("300", None, 60),
        (True, None, 60),
        (10**30, None, 2**31 - 1),
        (300, 100, 200),
        (300, 400, 2),
        (300, -100, 300),
        (300, "nonsense", 300),
    ],
)
async def test_the_life_of_a_token(expires: Any, age: Any, life: int) -> None:
    """A daemon keeps for ever what lives for too short."""
    issued = (datetime.now(UTC) - timedelta(seconds=age)).isoformat() if isinstance(age, int) else age
    token = await fetch(Server({"access_token": "t", "expires_in": expires, "issued_at": issued}))
    assert life - 5 <= token.life <= life
    assert token.life >= 2


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "auth.example/token",
        "file:///etc/passwd",
        "ftp://auth.example/",
        "https:///token",
        "https://user@auth.example/",
        "https://auth.example:x/",
        "https://[::1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "https://auth.example/\r\nX: y",
    ],
)
@pytest.mark.parametrize("credentials", [None, ALICE])
async def test_realms_that_lead_elsewhere(realm: str, credentials: Credentials | None) -> None:
    """AU-13: nothing is sent at all."""
    server = Server()
    assert "the URL of the token server" in await failure(server, credentials, realm=realm)
    assert not server.asked


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("reg.example", False),
        ("127.0.0.1.example", False),
        ("localhost.example:5000", False),
        ("plain.example:5000", True),
        ("plain.example", False),
        ("127.0.0.1:5000", True),
        ("localhost:5000", True),
        ("[::1]:5000", True),
        ("[::1", False),
        ("", False),
    ],
)
async def test_a_password_over_plain_http(host: str, sent: bool) -> None:
    """AU-13: only for registries of this machine, or that are said to be insecure."""
    server = Server({"access_token": "t"})
    client = TokenClient(server, insecure=["http://plain.example:5000/v2/"])
    request = replace(REQUEST, host=host, realm="http://auth.example/token")
    if sent:
        await client.fetch(request, ALICE)
    else:
        with pytest.raises(RpcError, match="over https only"):
            await client.fetch(request, ALICE)
    assert bool(server.asked) == sent


@pytest.mark.parametrize("first", [[], [Reply(401, b"")]])
async def test_a_password_follows_no_redirect(first: list[Reply]) -> None:
    """AU-14: not even to the same server, by either way."""
    server = Server(*first, Reply(307, b"", "https://auth.example/other"), {"access_token": "t"})
    assert "redirects" in await failure(server)
    assert len(server.asked) == len(first) + 1


async def test_redirects_without_a_password() -> None:
    """They are followed, but not to where a realm must not lead, nor for ever."""
    server = Server(Reply(302, b"", "/other?x=1"), {"token": "t"})
    assert (await fetch(server, None)).text == "t"
    assert server.asked[1][1] == "https://auth.example/other?x=1"
    assert "URL" in await failure(Server(Reply(302, b"", "http://169.254.169.254/")), None)
    assert "too many" in await failure(Server(*[Reply(302, b"", "/again")] * 5), None)


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "Connection refused"), OSError("hunter2")])
async def test_a_server_that_is_not_there(error: OSError) -> None:
    text = await failure(Server(error))
    assert text in {
        "failed to fetch oauth token: Connection refused",
        "failed to fetch oauth token: OSError",
    }


def test_a_token_is_not_shown() -> None:
    """AU-04."""
    assert "hunter2" not in repr(Token("hunter2"))
    assert "hunter2" not in repr(Reply(200, b"hunter2"))
