"""Code of the caller's that cancels itself: a failure with a name, and not a build that ends without a word."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import buildkit_session as bk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio


async def cancels_itself(*_given: object) -> Any:
    """Wait for something that somebody has cancelled."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def intercepts(call: bk.ServedCall, proceed: Callable[[], Awaitable[None]]) -> None:
    await (cancels_itself() if "/GetSecret" in call.method else proceed())


def a_service() -> bk.Service:
    service = bk.Service("moby.buildkit.secrets.v1.Secrets")
    service.unary("GetSecret")(cancels_itself)
    return service


SECRET = {"HTTP_AUTH_TOKEN_127.0.0.1": bk.secret.call(cancels_itself)}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("secret '.*': the function", {"secrets": SECRET}),
        ("the source policy, asked about .*,", {"source_policy": cancels_itself}),
        ("the session exporter's find", {"session_exporter": cancels_itself}),
        ("an interceptor", {"secrets": SECRET, "interceptors": [intercepts]}),
        ("the handler of /moby.*/GetSecret", {"services": [a_service()]}),
    ],
    ids=["secret", "policy", "exporter", "interceptor", "service"],
)
async def test_a_function_that_cancels_itself(text: str, arguments: Any, native_daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nADD http://127.0.0.1:1/file /\n")
    if "session_exporter" in arguments:
        (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    async with bk.connect(native_daemon.address) as client:
        with pytest.raises(bk.CallbackError, match=f"^{text} has cancelled itself$"):
            await client.build(tmp_path, outputs=[tmp_path / "out"], **arguments)
