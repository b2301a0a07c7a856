"""Tokens of registries, fetched on this side: the daemon gets the token and never sees the password.

What a registry names as its token server comes from the network by way of the daemon. So a password goes over TLS only,
unless the registry is on this machine or said to be insecure; it follows no redirect; and what comes back is bounded.
Which server of https it is cannot be known here: a daemon that lies about it has the password sent elsewhere.

Source: moby/buildkit:session/auth/authprovider/authprovider.go (FetchToken); containerd/containerd:
core/remotes/docker/auth/fetch.go; distribution/distribution:docs/content/spec/auth/token.md, oauth.md.
"""

from __future__ import annotations

import ipaddress
import json
import time
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import SplitResult, parse_qsl, urlencode, urljoin, urlsplit

import anyio

from buildkit_session.errors import RpcError
from buildkit_session.grpc.status import Status
from buildkit_session.printable import printable
from buildkit_session.services.credentials import Credentials, registry_host

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["CLIENT_ID", "Reply", "Token", "TokenClient", "TokenRequest", "Web", "is_link_local", "is_loopback"]

PATIENCE: Final = 50.0
"""Seconds for all requests of one token: newer daemons wait for 60."""

MAX_REPLY: Final = 256 * 1024
"""Bytes of an answer; a token has a few thousand."""

MAX_REDIRECTS: Final = 5

MAX_AT_ONCE: Final = 16
"""Tokens that are fetched at once, each over a connection of its own: a daemon may ask for any number."""

DEFAULT_LIFE: Final = 60
"""Seconds that a token lives whose server does not say."""

SHORTEST_LIFE: Final = 2
"""Seconds; a daemon keeps for ever what lives for less, or was issued too long ago.

Source: moby/buildkit:util/resolver/authorizer.go.
"""

LONGEST_LIFE: Final = 2**31 - 1

CLIENT_ID: Final = "buildkit-client"


@dataclass(frozen=True, slots=True)
class Token:
    """Attributes: ``text``, in no ``repr``; ``life`` in seconds from now on."""

    text: str = field(repr=False)
    life: int = DEFAULT_LIFE


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a registry wants a token for.

    Attributes:
        host: of the registry.
        realm: URL of its token server.
        service: what the registry calls itself there.
        scopes: what the token is for, such as ``repository:team/image:pull``.
        client_id: what the client calls itself there.
    """

    host: str
    realm: str
    service: str = ""
    scopes: Sequence[str] = ()
    client_id: str = CLIENT_ID


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """An answer of a web server.

    Attributes:
        status: of HTTP.
        body: at most one byte more than was allowed.
        location: where it redirects to.
    """

    status: int
    body: bytes
    location: str = ""


class Web(Protocol):
    """Sends requests of HTTP to the outside world."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, max_body: int
    ) -> Reply:
        """Send one request, follow no redirect, and read ``max_body`` + 1 bytes of the answer at most.

        Raises:
            OSError: there was no answer. Its text shows nothing of the request.
        """
        ...


class TokenClient:
    """Fetches tokens.

    Args:
        web: sends the requests.
        insecure: registries whose passwords may go over plain HTTP, as ``registry_host`` takes them.
    """

    def __init__(self, web: Web, *, insecure: Collection[str] = ()) -> None:
        self._web = web
        self._insecure = frozenset(map(registry_host, insecure))
        self._free = anyio.Semaphore(MAX_AT_ONCE)

    async def fetch(self, request: TokenRequest, credentials: Credentials | None) -> Token:
        """Return a token.

        Raises:
            RpcError: there is none; the text is for the user and shows no secret.
        """
        found = credentials or Credentials()
        if found.registry_token:
            return Token(found.registry_token, _life_of_ready(found))
        username, secret = found.pair
        prefix = f"failed to fetch {'oauth' if secret else 'anonymous'} token: "
        try:
            with anyio.fail_after(PATIENCE):
                async with self._free:
                    if secret:
                        return await self._fetch_with(request, username, secret)
                    return await self._get(request, {})
        except _TokenError as error:
            raise RpcError(Status.UNKNOWN, f"{prefix}{error}") from None
        except TimeoutError:
            raise RpcError(Status.UNKNOWN, f"{prefix}no answer within {PATIENCE:g} s") from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise RpcError(Status.UNKNOWN, f"{prefix}{printable(reason)}") from error

    async def _fetch_with(self, request: TokenRequest, username: str, secret: str) -> Token:
        """Ask as OAuth has it, and where a server does not know that, as docker's older way has it."""
        self._require_safe(request)
        reply = await self._post(request, username, secret)
        if reply.status in {401, 404} or (reply.status == 405 and username):
            encoded = b64encode(f"{username}:{secret}".encode()).decode()
            return await self._get(request, {"Authorization": f"Basic {encoded}"})
        return _token(reply, ("access_token",))

    async def _post(self, request: TokenRequest, username: str, secret: str) -> Reply:
        form = {"grant_type": "password" if username else "refresh_token", "service": request.service}
        form["client_id"] = request.client_id
        if request.scopes:
            form["scope"] = " ".join(request.scopes)
        form |= {"username": username, "password": secret} if username else {"refresh_token": secret}
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        url = _checked(request.realm).geturl()
        return await self._web.send("POST", url, headers, urlencode(form).encode(), max_body=MAX_REPLY)

    async def _get(self, request: TokenRequest, headers: Mapping[str, str]) -> Token:
        url = _checked(request.realm)
        query = parse_qsl(url.query, keep_blank_values=True)
        query += [("service", request.service)] if request.service else []
        query += [("scope", scope) for scope in request.scopes]
        target = url._replace(query=urlencode(query)).geturl()
        for _ in range(MAX_REDIRECTS):
            reply = await self._web.send("GET", target, headers, None, max_body=MAX_REPLY)
            if not 300 <= reply.status < 400 or headers:
                return _token(reply, ("access_token", "token"))
            target = _checked(urljoin(target, reply.location)).geturl()
        raise _TokenError("too many redirects")

    def _require_safe(self, request: TokenRequest) -> None:
        """Raise an error where a password must not go."""
        if _checked(request.realm).scheme == "https" or request.host in self._insecure or is_loopback(request.host):
            return
        raise _TokenError(
            f"a password for {printable(request.host)} is sent over https only; with BUILDKIT_NO_CLIENT_TOKEN=1 the "
            "daemon gets it, and fetches the token itself"
        )


class _TokenError(Exception):
    """Why there is no token, in words for the user."""


def _checked(url: str) -> SplitResult:
    """Take apart the URL of a token server.

    Raises:
        _TokenError: it is one that no request may go to.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _TokenError("the URL of the token server is malformed") from None
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc or not url.isprintable():
        raise _TokenError("the URL of the token server is not one of http or https")
    if is_link_local(host):
        # Where clouds hand out credentials of the machine to whoever asks.
        raise _TokenError("the URL of the token server has a link-local address")
    return parts


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_link_local(address: str) -> bool:
    """Whether a text is an address of this network segment alone."""
    found = _address(address)
    return found is not None and found.is_link_local


def is_loopback(host: str) -> bool:
    """Whether a host, with or without a port, is this machine by its name."""
    try:
        name = urlsplit("//" + host).hostname
    except ValueError:
        return False
    address = _address(name or "")
    return name == "localhost" or (address is not None and address.is_loopback)


def _token(reply: Reply, names: Sequence[str]) -> Token:
    if len(reply.body) > MAX_REPLY:
        raise _TokenError(f"the token server's answer has more than {MAX_REPLY} bytes")
    if 300 <= reply.status < 400:
        raise _TokenError("the token server redirects, which is not followed with a password")
    if not 200 <= reply.status < 300:
        raise _TokenError(f"unexpected status {reply.status}{_reasons(reply.body)}")
    fields = _object(reply.body)
    text = next((found for found in map(fields.get, names) if isinstance(found, str) and found), None)
    if text is None or not text.isascii() or not text.isprintable():
        raise _TokenError("authorization server did not include a token in the response")
    return Token(text, _life(fields))


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _life(fields: Mapping[str, Any]) -> int:
    """Seconds that a token still lives."""
    given = fields.get("expires_in")
    life = given if type(given) is int and given else DEFAULT_LIFE
    return min(max(life - _age(fields.get("issued_at")), SHORTEST_LIFE), LONGEST_LIFE)


def _life_of_ready(found: Credentials) -> int:
    """Seconds that a daemon may keep a token that was there before it asked."""
    if found.expires_at is None:
        return DEFAULT_LIFE
    return min(max(int(found.expires_at.timestamp() - time.time()), SHORTEST_LIFE), DEFAULT_LIFE)


def _age(issued: object) -> int:
    """Seconds since a token was issued, as far as the clocks agree."""
    try:
        moment = datetime.fromisoformat(issued) if isinstance(issued, str) else None
        return max(int(time.time() - moment.timestamp()), 0) if moment is not None else 0
    except (ValueError, OverflowError):
        return 0


def _reasons(body: bytes) -> str:
    """What a registry gives for its reasons; of other answers nothing is shown."""
    errors = _object(body).get("errors")
    found = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    texts = [f"{error.get('code')}: {error.get('message')}" for error in found[:3]]
    return "".join(f"; {printable(text)[:256]}" for text in texts)
