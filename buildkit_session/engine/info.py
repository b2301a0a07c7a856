"""What an Engine says about itself, and the API version that both sides speak.

Source: moby/moby:client/ping.go, moby/moby:api/server/router/system/system_routes.go (pingHandler).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_session.engine.api_version import ApiVersion
from buildkit_session.engine.faults import shortened
from buildkit_session.errors import EngineError, UnsupportedError

if TYPE_CHECKING:
    from buildkit_session.engine.address import Endpoint
    from buildkit_session.engine.exchange import Answer

__all__ = ["EngineInfo", "read_info"]

# The newest API this client was written against, and the oldest that knows the build parameter "outputs".
NEWEST_API: Final = ApiVersion(1, 51)
OLDEST_API: Final = ApiVersion(1, 40)
# What an Engine speaks that does not say (moby/moby:client/client.go, fallbackAPIVersion).
_UNSAID_API: Final = ApiVersion(1, 24)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an Engine says about itself.

    Attributes:
        api_version: spoken from now on; part of every path.
        newest_api: the newest version the Engine knows.
        builder: the builder it recommends: ``2`` is BuildKit; empty when it says nothing (20.10).
        os_type: ``linux`` or ``windows``.
        server: product and version, such as ``Docker/28.5.2 (linux)``.
        experimental: whether experimental features are on.
    """

    api_version: ApiVersion
    newest_api: ApiVersion
    builder: str
    os_type: str
    server: str
    experimental: bool


def read_info(answer: Answer, endpoint: Endpoint) -> EngineInfo:
    """Read the answer to ``/_ping`` and settle on a version.

    Raises:
        EngineError: the answer is none of an Engine.
        UnsupportedError: the Engine or the pinned version is older than the API this library needs.
    """
    server = server_text(answer)
    said = answer.field("Api-Version")
    if not said and not server.startswith("Docker/"):
        raise EngineError(foreign_text(endpoint, f"Server: {server or 'not said'}"), status=answer.status)
    try:
        newest = ApiVersion.parse(said) if said else _UNSAID_API
    except ValueError as exc:
        msg = f"the Engine at {endpoint} names its API version in an unknown way: {exc}"
        raise EngineError(msg, status=answer.status) from exc
    return EngineInfo(
        api_version=_negotiated(newest, server, endpoint),
        newest_api=newest,
        builder=answer.field("Builder-Version"),
        os_type=answer.field("Ostype"),
        server=server,
        experimental=answer.field("Docker-Experimental") == "true",
    )


def foreign_text(endpoint: Endpoint, reason: str) -> str:
    """Say what to do where a server answers that is no Engine."""
    return (
        f"what answers at {endpoint} is an HTTP server but no Docker Engine ({reason}): look at the host, the port and "
        "the path of the address, or name another one, of an Engine or a buildkitd"
    )


def server_text(answer: Answer) -> str:
    """What the server calls itself; empty when it does not say."""
    return shortened(answer.field("Server"), limit=200)


def _negotiated(newest: ApiVersion, server: str, endpoint: Endpoint) -> ApiVersion:
    pinned = endpoint.api_version
    chosen = pinned or min(NEWEST_API, newest)
    if chosen < OLDEST_API:
        found = f"DOCKER_API_VERSION asks for {pinned}" if pinned else f"{server or 'the Engine'} speaks {newest}"
        msg = f"the Docker Engine API {OLDEST_API} (Engine 19.03) or newer is needed; {found} at {endpoint}"
        raise UnsupportedError(msg)
    return chosen
