"""A file at a URL, fetched by the daemon: it may be reached from there alone, and stays in the daemon's cache.

Source: docker/buildx:build/url.go, moby/buildkit:source/http/httpsource.go.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from buildkit_session.engine.gateway import gateway_build, only_ref
from buildkit_session.engine.llb import source_definition
from buildkit_session.errors import BuildError, InputError
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.messages.moby.buildkit.v1 import frontend
from buildkit_session.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.engine.daemon import Link
    from buildkit_session.engine.gateway import Gateway
    from buildkit_session.grpc.interception import Interceptor

__all__ = ["fetch_file"]

_NAME: Final = "Dockerfile"


async def fetch_file(link: Link, url: str, *, max_size: int, interceptors: Iterable[Interceptor] = ()) -> bytes:
    """Fetch a Dockerfile.

    Args:
        link: to the daemon.
        url: ``http`` or ``https``.
        max_size: the most bytes that it may have.
        interceptors: what every call of the daemon goes through.

    Raises:
        InputError: the daemon cannot fetch it, or it is too large.
    """
    text = b""

    async def fetch(gateway: Gateway) -> frontend.Result:
        nonlocal text
        source = source_definition(url, {"http.filename": _NAME}, name=f"[internal] load {url}")
        result = await gateway.solve(frontend.SolveRequest(definition=source, evaluate=True))
        text = await gateway.read_file(only_ref(result), _NAME, length=max_size + 1)
        return frontend.Result()

    session = Session([], interceptors=interceptors)
    request = v1.SolveRequest(ref=secrets.token_hex(12), session=session.id, internal=True)
    try:
        async with session.serving(link.dial_session), gateway_build(link, request, fetch) as stream:
            async for _ in stream:
                pass
    except BuildError as error:
        raise InputError(f"the daemon cannot fetch the Dockerfile at {url}: {error.message}") from error
    if len(text) > max_size:
        raise InputError(f"the Dockerfile at {url} is longer than {max_size} bytes; is it one?")
    return text
