"""Start a token server for a registry, which sends its clients there: in this process, on loopback.

An account may push and pull what is below its own name, such as ``alice/app``; everybody may pull what is below
``public/``. Tokens are JSON Web Tokens, signed by a key of the server's own.

Source: distribution/distribution:docs/content/spec/auth/token.md, oauth.md, jwt.md; registry/auth/token/token.go.
"""

from __future__ import annotations

import json
import secrets
import ssl
import threading
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

from buildkit_session.testing.certificates import openssl
from buildkit_session.testing.isolated import state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    Way: TypeAlias = Literal["oauth", "basic"]

__all__ = ["TokenGrant", "TokenServer", "start_token_server"]

PUBLIC: Final = "public"

_LEEWAY: Final = 60
"""Seconds that the registry goes on to take a token whose time is over."""

_EARLIER: Final = 3600
_DENIED: Final = {"errors": [{"code": "UNAUTHORIZED", "message": "wrong name or password"}]}
_Fields: TypeAlias = "Mapping[str, Sequence[str]]"


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """A token that was handed out.

    Attributes:
        method: of the request: POST as OAuth has it, or GET.
        user: whose it is; empty for one that anybody gets.
        scopes: what was asked for.
        agent: who asked, as the request's User-Agent says it.
        at: when, in seconds of ``time.time()``.
    """

    method: str
    user: str
    scopes: tuple[str, ...]
    agent: str
    at: float


class TokenServer:
    """A token server; what it hands out can be changed while it runs.

    Attributes:
        realm: its URL.
        service: what the registry is called here.
        issuer: what the server calls itself.
        certificate: PEM file with what its signatures are checked with.
        passwords: of the accounts, by name.
        identities: the accounts of refresh tokens, which docker calls identity tokens; only ``oauth`` takes them.
        life: seconds that tokens live, to the second in the registry too.
        way: ``basic`` answers POST with 404, as servers do that know no OAuth, and calls the token by its older name.
        granted: the tokens, in order.
        refused: the names with which a password was wrong, in order; of a wrong refresh token the empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.realm = ""
        self.service = "test-registry"
        self.issuer = "test-tokens"
        self.certificate = folder / "tokens.pem"
        self.passwords: dict[str, str] = {}
        self.identities: dict[str, str] = {}
        self.life = 300
        self.way: Way = "oauth"
        self.granted: list[TokenGrant] = []
        self.refused: list[str] = []
        self._key = folder / "tokens-key.pem"
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test tokens",
            *("-keyout", self._key, "-out", self.certificate),
        )  # fmt: skip

    def answer(self, method: str, fields: _Fields, authorization: str, agent: str) -> tuple[int, dict[str, object]]:
        """The status and the fields of an answer.

        Args:
            method: of the request.
            fields: of the form or of the query.
            authorization: the header field of that name.
            agent: the field ``User-Agent``.
        """
        if method == "POST" and self.way == "basic":
            return 404, {}
        if (user := self._user(method, fields, authorization)) is None:
            return 401, dict(_DENIED)
        # A form has all of them in one field.
        scopes = tuple(scope for field in fields.get("scope", ()) for scope in field.split())
        now = time.time()
        self.granted.append(TokenGrant(method, user, scopes, agent, now))
        token = self._token(user, [_access(user, scope) for scope in scopes], int(now))
        return 200, {"access_token" if self.way == "oauth" else "token": token, "expires_in": self.life}

    def _user(self, method: str, fields: _Fields, authorization: str) -> str | None:
        """Whose the request is, the empty name for nobody's; ``None`` if it does not prove that."""
        if fields.get("grant_type") == ["refresh_token"]:
            user = self.identities.get("".join(fields.get("refresh_token", ())), "")
            proven = bool(user)
        else:
            user, password = _posted(fields) if method == "POST" else _basic(authorization)
            proven = not user or self.passwords.get(user) == password
        if not proven:
            self.refused.append(user)
        return user if proven else None

    def _token(self, user: str, access: list[dict[str, object]], now: int) -> str:
        chain = b64encode(ssl.PEM_cert_to_DER_cert(self.certificate.read_text())).decode()
        head = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
        claims = {
            "iss": self.issuer,
            "sub": user,
            "aud": self.service,
            "exp": now + self.life - _LEEWAY,
            "nbf": now - _EARLIER,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        return f"{signed}.{_base64(openssl('dgst', '-sha256', '-sign', self._key, data=signed.encode()))}"


@contextmanager
def start_token_server(passwords: Mapping[str, str]) -> Iterator[TokenServer]:
    """Serve until the end of the block, on a port of 127.0.0.1.

    Args:
        passwords: of the accounts, by name.

    Raises:
        Unavailable: there is no ``openssl``, or it failed.
    """
    with state_folder() as folder:
        server = TokenServer(folder)
        server.passwords |= passwords

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(parse_qs(urlsplit(self.path).query))

            def do_POST(self) -> None:
                self.reply(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

            def reply(self, fields: _Fields) -> None:
                authorization, agent = (self.headers.get(name, "") for name in ("Authorization", "User-Agent"))
                status, answer = server.answer(self.command, fields, authorization, agent)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")  # a daemon would keep it for as long as it likes
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
            server.realm = f"http://127.0.0.1:{listening.server_address[1]}/token"
            thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield server
            finally:
                listening.shutdown()
                thread.join()


def _posted(fields: _Fields) -> tuple[str, str]:
    return "".join(fields.get("username", ())), "".join(fields.get("password", ()))


def _basic(authorization: str) -> tuple[str, str]:
    user, _, password = b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
    return user, password


def _access(user: str, scope: str) -> dict[str, object]:
    """What of a scope such as ``repository:alice/app:pull,push`` is granted."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    owner = name.partition("/")[0]
    allowed = {"pull", "push"} if user and owner == user else {"pull"} if owner == PUBLIC else set()
    return {"type": kind, "name": name, "actions": [action for action in actions.split(",") if action in allowed]}


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
