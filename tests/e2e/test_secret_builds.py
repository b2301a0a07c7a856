"""Secrets in steps of real builds."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from service_builds import build, shared

from buildkit_session.engine.events import VertexLog
from buildkit_session.errors import BuildError, CallbackError
from buildkit_session.request import secret
from buildkit_session.services.secrets import MAX_SECRET, Secrets

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.services.secrets import SecretSource
    from buildkit_session.testing import Daemon

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
