"""Real agents and keys, used by ssh-add and ssh in steps of real builds, where ssh logs in at a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from leftovers import nothing_left
from service_builds import build, shared

import buildkit_session as bk
from buildkit_session.engine.events import VertexLog
from buildkit_session.errors import BuildError, InputError
from buildkit_session.services.agent_guard import AgentGuard
from buildkit_session.services.agent_messages import fingerprint
from buildkit_session.services.agent_socket import AgentSocket
from buildkit_session.services.key_agent import key_agent
from buildkit_session.services.ssh import Ssh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.request.ssh import SignRequest
    from buildkit_session.testing import Daemon, ReferenceClient, Sshd

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
    """With ssh-add, ssh and what they are linked to, at the same places as here."""
    root = tmp_path / "context"
    programs = [found for name in ("ssh", "ssh-add") if (found := shutil.which(name))]
    linked = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    libraries: list[str] = re.findall(r"\s(/[^\s:]+)(?=\s)", linked)
    for file in (*programs, *libraries):
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
    with pytest.raises(BuildError, match="no ssh agent is forwarded as 'other'") as caught:
        await run(daemon, context, Ssh({"": AgentSocket(agent)}), "true", "id=other,required=true")
    assert caught.value.advice == "offer it with ssh= (--ssh other)"
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


SCRIPT = """\
say() {{ echo "$1: $(SSH_AUTH_SOCK=/agents/$1 $2 2>&1 | busybox tr -s '\\r\\n' ' ')"; }}
log_in() {{ busybox timeout 60 ssh -nTF /dev/null -p {port} -o UserKnownHostsFile=/known_hosts -o BatchMode=yes \
    -o IdentitiesOnly=$1 -i /$2.pub {user}@127.0.0.1 echo welcome; }}
say all 'ssh-add -l'; say all 'log_in no none'; say all 'log_in yes second'
say one 'ssh-add -l'; say one 'log_in yes first'; say one 'log_in yes second'
say one 'ssh-add -T /first.pub'; say one 'ssh-add -T /second.pub'
say asked 'ssh-add -l'; say asked 'log_in yes first'
say keys 'ssh-add -l'; say keys 'log_in yes third'; say keys 'log_in yes fourth'
say raw 'ssh-add -d /second.pub'; say raw 'log_in yes first'
"""


def make_key(path: Path, passphrase: str = "") -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True)


def make_keys(tmp_path: Path, agent: Path, context: Path, sshd: Sshd) -> dict[str, Path]:
    """Four keys that the server lets in: two for the agent, two in files. The context has their public halves."""
    files = {name: tmp_path / f"made/{name}" for name in ("first", "second", "third", "fourth")}
    files["first"].parent.mkdir()
    for file, passphrase in zip(files.values(), ("", "", "", "words of mine"), strict=True):
        make_key(file, passphrase)
        with sshd.key.with_suffix(".pub").open("a") as let_in:
            let_in.write(file.with_suffix(".pub").read_text())
        copied = Path(shutil.copy(file.with_suffix(".pub"), context / "root"))
        copied.chmod(0o600)  # where no agent has the key, ssh takes this for the private one
    subprocess.run(["ssh-add", "-q", files["first"], files["second"]], env=about(agent), check=True)
    shutil.copy(sshd.known_hosts, context / "root/known_hosts")
    (context / "root/script").write_text(SCRIPT.format(port=sshd.port, user=sshd.user))
    return files


WORDS = ("a key", "first", "second", "third", "welcome", "refused", "denied", "removed")


async def test_logins(daemon: Daemon, agent: Path, context: Path, sshd: Sshd, tmp_path: Path) -> None:
    """Of every way to forward keys, in one step; nothing of it is left here."""
    if os.environ.get("DOCKER_HOST"):
        pytest.skip("the host's network of that daemon may be another one")
    files = make_keys(tmp_path, agent, context, sshd)
    requests: list[SignRequest] = []

    async def refuse(request: SignRequest) -> bool:
        requests.append(request)
        return False

    async def vault(path: Path | None) -> bytes:
        assert path is None
        return b"words of mine"

    ssh: dict[str, bk.ssh.SshSource] = {
        "all": bk.ssh.agent(agent),
        "one": bk.ssh.agent(agent, only=files["second"].with_suffix(".pub")),
        "asked": bk.ssh.agent(agent, confirm=refuse),
        "keys": bk.ssh.keys(files["third"], files["fourth"].read_bytes(), passphrase=vault),
        "raw": bk.ssh.raw(agent),
    }
    async with nothing_left(tmp_path):
        said = await run_on_the_host(daemon, context, tmp_path / "out", ssh)
    assert [line.split(":")[0] for line in said] == ["all"] * 3 + ["one"] * 5 + ["asked"] * 2 + ["keys"] * 3 + [
        "raw"
    ] * 2
    found = [[word for word in WORDS if word in line.lower()] for line in said]
    assert found[:3] == [["a key", "first", "second"], ["welcome"], ["welcome"]]
    assert found[3:8] == [["second"], ["first", "denied"], ["welcome"], ["first", "refused"], []]
    assert found[8:10] == [["a key", "first", "second"], ["first", "refused", "denied"]]
    assert found[10:13] == [["third"], ["welcome"], ["welcome"]]
    assert said[10].count("ED25519") == 2
    assert found[13:] == [["second", "removed"], ["welcome"]]
    assert "second" not in keys(agent)
    (request,) = requests
    assert (request.id, request.comment, request.kind, request.user) == ("asked", "first", "login", sshd.user)
    assert request.host_key in {None, fingerprint(b64decode(sshd.known_hosts.read_text().split()[2]))}


async def test_a_wrong_passphrase_starts_no_build(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "key", "words of mine")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY root /\n")
    wrong: tuple[dict[str, Any], ...] = (
        {"passphrase": "words of yours"},
        {"passphrase": "words of mine", "only": "another key"},
    )
    for options, message in zip(
        wrong, ("does not open it", "names 'another key', and the comments of the keys are '"), strict=True
    ):
        given: dict[str, Any] = {"ssh": {"": bk.ssh.keys(tmp_path / "key", **options)}}
        events: list[bk.ProgressEvent] = []
        async with bk.connect(daemon.address) as client:
            with pytest.raises(InputError, match=message) as caught:
                await client.build(context, on_event=events.append, **given)
        assert "words" not in str(caught.value)
        assert not events


def test_what_buildx_says(daemon: Daemon, reference: ReferenceClient, agent: Path, context: Path) -> None:
    """Of a locked key the same; a raw socket it does not know."""
    (context / "Dockerfile").write_text("FROM scratch\n")
    make_key(context / "locked", "words")
    for value, words in ((f"a={context}/locked", "private key is passphrase protected"), (f"a={agent},raw=true", "")):
        done = reference.build(daemon.address, "--ssh", value, context, check=False)
        assert done.returncode != 0
        assert words in done.stderr
        assert "failed to solve" not in done.stderr
    with pytest.raises(InputError, match="private key is passphrase protected"):
        bk.ssh.parse(f"a={context}/locked")[1].check()


async def test_a_step_that_does_not_wait_for_the_verdict(
    daemon: Daemon, agent: Path, context: Path, tmp_path: Path
) -> None:
    """Who is asked is left alone once the step has ended; the build goes on, and nothing is left."""
    shutil.copy(agent.with_name("key.pub"), context / "root/key.pub")
    ended = []

    async def think(request: SignRequest) -> bool:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(request.kind)
        return True

    guard = AgentGuard(AgentSocket(agent), "default", chosen=None, confirm=think)
    async with nothing_left(tmp_path):
        command = "/bin/busybox timeout 1 ssh-add -T /key.pub; ssh-add -l"
        printed = await run(daemon, context, Ssh({"": guard}), command)
    assert "a key" in printed
    assert ended == ["data"]


async def run_on_the_host(daemon: Daemon, context: Path, out: Path, ssh: dict[str, bk.ssh.SshSource]) -> list[str]:
    """Run the script of a context with these agents; returns the lines that it printed."""
    mounts = " ".join(f"--mount=type=ssh,id={name},target=/agents/{name},required=true" for name in ssh)
    step = f'RUN {mounts} ["/bin/busybox", "sh", "-c", "PATH=$PATH:/bin:/usr/bin; . /script >/said"]'
    (context / "Dockerfile").write_text(
        f"FROM scratch AS steps\nCOPY root /\n{step}\nFROM scratch\nCOPY --from=steps /said /\n"
    )
    async with bk.connect(daemon.address) as client:
        await client.build(
            context, network="host", allow=["network.host"], no_cache=True, ssh=ssh, outputs=[bk.output.local(out)]
        )
    return (out / "said").read_text().splitlines()


def test_several_ids_by_command_line(
    daemon: Daemon, reference: ReferenceClient, agent: Path, context: Path, tmp_path: Path
) -> None:
    """In one step, each with its own keys; buildx shows a step the same."""
    for name in ("first", "second"):
        make_key(tmp_path / name)
    first, second = (" ".join((tmp_path / f"{name}.pub").read_text().split()[:2]) for name in ("first", "second"))
    ids = ("default", "named", "file", "files")
    mounts = " ".join(f"--mount=type=ssh,id={name},target=/agents/{name},required=true" for name in ids)
    script = f"for i in {' '.join(ids)}; do SSH_AUTH_SOCK=/agents/$i ssh-add -L >/said-$i; done"
    step = f'RUN {mounts} ["/bin/busybox", "sh", "-c", "PATH=$PATH:/bin:/usr/bin; {script}"]'
    copies = "".join(f"COPY --from=steps /said-{name} /\n" for name in ids)
    (context / "Dockerfile").write_text(f"FROM scratch AS steps\nCOPY root /\n{step}\nFROM scratch\n{copies}")
    given = (f"named={agent}", f"file={tmp_path}/first", f"files={tmp_path}/first,{tmp_path}/second", "default")
    words = ["--no-cache", "--network=none", *(f"--ssh={value}" for value in given)]
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    environment = {"SSH_AUTH_SOCK": str(agent)}
    reference.run(daemon.address, "buildx", "build", *words, f"--output={theirs}", context, environment=environment)
    command = [sys.executable, "-m", "buildkit_session", "-H", daemon.address, "build"]
    subprocess.run([*command, *words, f"--output={ours}", context], env=about(agent), check=True, capture_output=True)
    of_agent = " ".join(keys(agent).split()[:2])
    for out in (theirs, ours):
        # The comment of a key is the file's name here, and nothing with buildx.
        said = {
            name: [" ".join(line.split()[:2]) for line in (out / f"said-{name}").read_text().splitlines()]
            for name in ids
        }
        assert said == {"default": [of_agent], "named": [of_agent], "file": [first], "files": [first, second]}
