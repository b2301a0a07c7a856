"""Questions of a daemon about sources, without a connection."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest
from calls import ScriptedCall, serve

from buildkit_session.errors import CallbackError, InputError
from buildkit_session.messages.moby.buildkit.v1.frontend import ResolveSourceMetaResponse
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy import PolicyAction
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy.policysession import CheckPolicyRequest
from buildkit_session.messages.pb.ops import SourceOp
from buildkit_session.services import policy
from buildkit_session.services.policy_verifier import PolicyVerifier

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

SIGNED = "https://me:hunter2@files.example/a?token=hunter2"


def fails(_source: policy.Source) -> policy.Decision:
    raise RuntimeError


async def ask(decide: Callable[[policy.Source], policy.Decision], identifier: str) -> PolicyAction | int | None:
    request = CheckPolicyRequest(source=ResolveSourceMetaResponse(source=SourceOp(identifier)))
    (answer,) = await serve(PolicyVerifier(policy.verifier(decide)), "CheckPolicy", ScriptedCall([request]))
    return None if answer.decision is None else answer.decision.action


async def test_what_in_a_url_is_secret_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A login or a signature of the build's own sources is logged nowhere else either."""
    caplog.set_level(logging.DEBUG)
    assert await ask(lambda _source: policy.allow(), SIGNED) == PolicyAction.ALLOW
    with pytest.raises(CallbackError, match=r"asked about https://files\.example/a, raised RuntimeError"):
        await ask(fails, SIGNED)
    with pytest.raises(InputError, match="there is no more") as caught:
        await ask(lambda _source: policy.more(), "local://me?token=hunter2")
    assert "> allow https://files.example/a" in caplog.text
    assert "hunter2" not in caplog.text + str(caught.value)


async def test_a_plain_function_may_block() -> None:
    threads = []

    def decide(source: policy.Source) -> policy.Decision:
        threads.append(threading.current_thread())
        return policy.deny(source.scheme)

    assert await ask(decide, "git://a.example/b") == PolicyAction.DENY
    assert threads != [threading.current_thread()]
