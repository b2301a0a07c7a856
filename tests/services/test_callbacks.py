"""Plain functions of the caller: those that hang leave threads for everybody else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
import pytest
from calls import ScriptedCall, serve

from buildkit_session.messages.moby.buildkit.v1.frontend import ResolveSourceMetaResponse
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy.policysession import CheckPolicyRequest
from buildkit_session.messages.pb.ops import SourceOp
from buildkit_session.services.callbacks import THREADS
from buildkit_session.services.policy import Decision, Source, Verifier, allow
from buildkit_session.services.policy_verifier import PolicyVerifier

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_those_that_hang_leave_threads_for_files(tmp_path: Path) -> None:
    """A daemon asks about a hundred sources at once, of a policy that waits for something."""
    (tmp_path / "file").write_bytes(b"content")
    go = threading.Event()
    began: list[str] = []

    def decide(source: Source) -> Decision:
        began.append(source.identifier)
        assert go.wait(60)
        return allow()

    service = PolicyVerifier(Verifier(decide))
    source = ResolveSourceMetaResponse(source=SourceOp("docker-image://a", {}))
    calls = [ScriptedCall([CheckPolicyRequest(source=source)]) for _ in range(100)]
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(serve, service, "CheckPolicy", call)
        with anyio.fail_after(60):
            while len(began) < THREADS:  # noqa: ASYNC110 - they say so in threads
                await anyio.sleep(0.01)
            assert await anyio.Path(tmp_path / "file").read_bytes() == b"content"
        assert len(began) == THREADS
        go.set()
    assert all(len(call.sent) == 1 for call in calls)
