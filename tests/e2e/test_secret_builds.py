"""Secrets in steps of real builds."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from fake_buildkit import fake_buildkit, silent
from service_builds import build, shared
from web import served

import buildkit_session as bk
from buildkit_session.engine.events import VertexLog
from buildkit_session.errors import BuildError, CallbackError
from buildkit_session.request import secret
from buildkit_session.services.secrets import MAX_SECRET, Secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from buildkit_session.services.secrets import SecretSource
    from buildkit_session.testing import Buildkitd, Daemon

pytestmark = pytest.mark.anyio


class Value:
    def __init__(self, value: bytes) -> None:
        self.value = value

    async def read(self) -> bytes | None:
        return self.value


class Broken:
    async def read(self) -> bytes | None:
        raise RuntimeError("vault says: hunter2")


async def run(daemon: Daemon, context: Path, busybox: Path, step: str, sources: dict[str, SecretSource]) -> bytes:
    """Run a step with secrets; returns what it printed."""
    shutil.copy(busybox, context / "busybox")
    mount, _, command = step.partition(" ")
    run = f'RUN --mount=type=secret,{mount} ["/bin/busybox", "sh", "-c", "{command}"]'
    (context / "Dockerfile").write_text(f"FROM scratch\nCOPY busybox /bin/busybox\n{run}\n")
    with shared(context) as directory:
        events = await build(daemon, [directory, Secrets(sources)])
    return b"".join(event.data for event in events if isinstance(event, VertexLog))


async def test_a_secret_arrives_as_it_is(daemon: Daemon, tmp_path: Path, busybox: Path) -> None:
    value = bytes(range(256)) * (MAX_SECRET // 256)
    step = "id=a,required=true /bin/busybox sha256sum </run/secrets/a"
    printed = await run(daemon, tmp_path, busybox, step, {"a": Value(value)})
    assert printed.split()[0].decode() == hashlib.sha256(value).hexdigest()


async def test_an_empty_secret_is_a_secret(daemon: Daemon, tmp_path: Path, busybox: Path) -> None:
    step = "id=a,required=true /bin/busybox wc -c </run/secrets/a"
    assert (await run(daemon, tmp_path, busybox, step, {"a": Value(b"")})).strip() == b"0"


async def test_an_optional_secret_may_be_missing(daemon: Daemon, tmp_path: Path, busybox: Path) -> None:
    step = "id=a /bin/busybox test -e /run/secrets/a || echo none"
    assert await run(daemon, tmp_path, busybox, step, {"A": Value(b"x")}) == b"none\n"


async def test_a_required_secret_may_not(daemon: Daemon, tmp_path: Path, busybox: Path) -> None:
    with pytest.raises(BuildError, match=r"secret a.*not found") as caught:
        await run(daemon, tmp_path, busybox, "id=a,required=true echo hello", {})
    assert caught.value.advice == "offer it with secrets= (--secret id=a)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("id=none_such", "secret 'none_such': failed to stat none_such: .* environment variable none_such is not set"),
        ("id=a,env=NONE_SUCH", "secret 'a': environment variable NONE_SUCH is not set"),
        ("id=a,src=/none/such", "secret 'a': failed to stat /none/such: No such file"),
    ],
)
async def test_what_is_missing_here_is_found_before_a_build_starts(
    given: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names every place that was looked at, and the daemon is asked for nothing."""
    for name in ("none_such", "NONE_SUCH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    async with fake_buildkit({"Control/Solve": silent, "Control/Status": silent}) as buildkit:
        async with bk.connect(buildkit.address) as client:
            with pytest.raises(bk.InputError, match=message):
                await client.build(tmp_path, secrets=[given])
        assert set(buildkit.asked) <= {"Control/ListWorkers"}


async def test_a_file_that_cannot_be_read_fails_even_an_optional_mount(
    daemon: Daemon, tmp_path: Path, busybox: Path
) -> None:
    """It was there when the build started; the step does not run without it, and the caller is told which it was."""
    gone = tmp_path / "gone"
    with pytest.raises(BuildError) as caught:
        await run(daemon, tmp_path, busybox, "id=a echo hello", {"a": secret.file(gone)})
    assert str(gone) not in str(caught.value)
    assert str(caught.value.__cause__) == f"secret 'a': secret file {gone} cannot be read: No such file or directory"


async def test_a_broken_source_fails_even_an_optional_mount(daemon: Daemon, tmp_path: Path, busybox: Path) -> None:
    """A step that runs without a secret that it should have is worse. The daemon learns nothing of the reason."""
    with pytest.raises(BuildError) as caught:
        await run(daemon, tmp_path, busybox, "id=a echo hello", {"a": Broken()})
    assert "hunter2" not in str(caught.value)
    assert isinstance(caught.value.__cause__, CallbackError)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_daemon_that_asks_on_its_own_gets_what_was_declared(
    declared: bool, engine_named: Callable[[str], Daemon], buildkitd: Buildkitd, tmp_path: Path
) -> None:
    """BuildKit asks for a login at every web server; it goes there. Nothing else of the caller's does."""
    asked: list[str] = []

    async def note(call: bk.ServedCall, proceed: Callable[[], Awaitable[None]]) -> None:
        if call.method.endswith("/GetSecret"):
            asked.append(call.subject)
        await proceed()

    secrets = {"npm": bk.secret.value("hunter2"), "HTTP_AUTH_TOKEN": bk.secret.value("hunter2")}
    if declared:
        secrets["HTTP_AUTH_TOKEN_127.0.0.1"] = bk.secret.value("for-the-server")
    for number, address in enumerate((engine_named("docker-newest").address, buildkitd.address)):
        seen: list[str] = []
        name = f"file-{number}-{declared}"  # another one each time: a daemon may know the other
        with served({f"/{name}": b"content"}, seen) as url:
            (tmp_path / "Dockerfile").write_text(f"FROM scratch\nADD {url}/{name} /\n")
            async with bk.connect(address) as client:
                await client.build(tmp_path, secrets=secrets, interceptors=[note], outputs=[tmp_path / f"out-{number}"])
        assert (tmp_path / f"out-{number}" / name).read_bytes() == b"content"
        assert set(seen) == ({"Bearer for-the-server"} if declared else {""})
        assert "HTTP_AUTH_TOKEN_127.0.0.1" in asked
        asked.clear()
