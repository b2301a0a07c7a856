"""A real agent, used by ssh-add in a step of a real build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from service_builds import build, shared

from buildkit_session.engine.events import VertexLog
from buildkit_session.errors import BuildError, InputError
from buildkit_session.services.agent_socket import AgentSocket
from buildkit_session.services.key_agent import key_agent
from buildkit_session.services.ssh import Ssh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.testing import Daemon

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not all(map(shutil.which, ("ssh-agent", "ssh-add", "ssh-keygen"))), reason="needs OpenSSH"),
]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """The socket of an agent with one key, whose public half is beside it."""
    key, socket = tmp_path / "key", tmp_path / "agent.sock"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a key", "-f", key], check=True)
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        while subprocess.run(
            ["ssh-add", "-q", key], env=about(socket), stderr=subprocess.DEVNULL, check=False
        ).returncode:
            assert process.poll() is None
        yield socket
    finally:
        process.kill()
        process.wait()


def about(socket: Path) -> dict[str, str]:
    return {**os.environ, "SSH_AUTH_SOCK": str(socket)}


def keys(socket: Path) -> str:
    return subprocess.run(["ssh-add", "-L"], env=about(socket), capture_output=True, text=True, check=False).stdout


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    """With ssh-add and what it is linked to, at the same places as here."""
    root = tmp_path / "context"
    program = shutil.which("ssh-add")
    assert program is not None
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries: list[str] = re.findall(r"/\S+", linked)
    for file in (program, *libraries):
        place = root / "root" / Path(file).relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    (root / "root/bin").mkdir(exist_ok=True)
    shutil.copy(busybox, root / "root/bin/busybox")
    (root / "root/etc").mkdir()
    (root / "root/etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    return root


async def run(daemon: Daemon, context: Path, service: Ssh, command: str, mount: str = "required=true") -> str:
    """Run a step with an agent; returns what it printed."""
    step = f'RUN --mount=type=ssh,{mount} ["/bin/busybox", "sh", "-c", "{command}"]'
    (context / "Dockerfile").write_text(f"FROM scratch\nCOPY root /\n{step}\n")
    with shared(context) as directory:
        events = await build(daemon, [directory, service])
    return b"".join(event.data for event in events if isinstance(event, VertexLog)).decode()


async def test_keys_are_listed_and_used_for_signatures(daemon: Daemon, agent: Path, context: Path) -> None:
    shutil.copy(agent.with_name("key.pub"), context / "root/key.pub")
    printed = await run(daemon, context, Ssh({"": AgentSocket(agent)}), "ssh-add -L && ssh-add -T /key.pub && echo ok")
    assert keys(agent) in printed
    assert "a key" in printed
    assert printed.endswith("ok\n")


async def test_a_step_cannot_change_the_agent(daemon: Daemon, agent: Path, context: Path) -> None:
    """AU-19: nor lock its owner out."""
    before = keys(agent)
    command = "ssh-add -D; echo x | ssh-add -d - ; ssh-add -L"
    printed = await run(daemon, context, Ssh({"git": AgentSocket(agent)}), command, "id=git,required=true")
    assert "agent refused operation" in printed.lower() or "failed to remove" in printed.lower()
    assert keys(agent) == before
    assert before in printed


async def test_many_connections_at_once(daemon: Daemon, agent: Path, context: Path) -> None:
    command = "for i in 1 2 3 4 5 6 7 8 9; do ssh-add -l & done; wait; ssh-add -l"
    printed = await run(daemon, context, Ssh({"": AgentSocket(agent)}), command)
    assert printed.count("a key") == 10


async def test_an_id_that_is_not_forwarded(daemon: Daemon, agent: Path, context: Path) -> None:
    with pytest.raises(BuildError, match="no ssh agent is forwarded as 'other'"):
        await run(daemon, context, Ssh({"": AgentSocket(agent)}), "true", "id=other,required=true")
    assert "none" in await run(daemon, context, Ssh({"": AgentSocket(agent)}), "ssh-add -l || echo none", "id=other")


async def test_an_agent_that_is_not_there(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        await run(daemon, context, Ssh({"": AgentSocket(tmp_path / "gone")}), "true")
    assert str(tmp_path) not in str(caught.value)
    assert isinstance(caught.value.__cause__, InputError)
    assert "gone does not answer" in str(caught.value.__cause__)


async def test_key_files(daemon: Daemon, agent: Path, context: Path) -> None:
    """The same key without its owner's agent: a step cannot remove it from the next one's sight either."""
    shutil.copy(agent.with_name("key.pub"), context / "root/key.pub")
    async with key_agent([agent.with_name("key")]) as own:
        printed = await run(daemon, context, Ssh({"": own}), "ssh-add -D; ssh-add -T /key.pub && ssh-add -L")
    assert keys(agent).split()[1] in printed
