"""Values of secrets are in nothing that a program or a person gets to see of a build, whether it succeeds or fails."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import buildkit_session as bk
from buildkit_session.request.build_request import BuildRequest
from buildkit_session.services.secrets import Secrets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from buildkit_session.testing import Daemon

pytestmark = pytest.mark.anyio

VALUES = {kind: f"hunter2-{kind}-{'x' * 8}" for kind in ("env", "file", "value", "call", "coroutine")}
MARK = "hunter2"


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bk.secret.Secret]:
    """One of each kind."""

    async def coroutine() -> str:
        return VALUES["coroutine"]

    monkeypatch.setenv("TEST_SECRET", VALUES["env"])
    (tmp_path / "secret").write_text(VALUES["file"])
    return {
        "env": bk.secret.env("TEST_SECRET"),
        "file": bk.secret.file(tmp_path / "secret"),
        "value": bk.secret.value(VALUES["value"]),
        "call": bk.secret.call(lambda: VALUES["call"]),
        "coroutine": bk.secret.call(coroutine),
    }


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    """A step that proves that it has all of them, by their sizes, and may fail then."""
    root = tmp_path / "context"
    root.mkdir()
    shutil.copy(busybox, root / "busybox")
    mounts = " ".join(f"--mount=type=secret,id={kind},required=true" for kind in VALUES)
    command = "/bin/busybox cat /run/secrets/* | /bin/busybox wc -c; exit $CODE"
    run = f'RUN {mounts} ["/bin/busybox", "sh", "-c", "{command}"]'
    (root / "Dockerfile").write_text(f"FROM scratch\nCOPY busybox /bin/busybox\nARG CODE\n{run}\n")
    return root


class Seen:
    """Everything that a build gave away, as text."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, *things: object) -> None:
        for thing in things:
            self.texts += [repr(thing), str(thing), *_fields(thing)]

    def note_error(self, error: BaseException) -> None:
        """With all of its causes, its notes, and what a formatter would print of its frames."""
        for one in _chain(error):
            self.note(one, *getattr(one, "__notes__", ()), *one.args, *vars(one).values())
        self.texts += traceback.format_exception(error)
        # Of frames of ours even their variables; those of the test hold values of course.
        detailed = traceback.TracebackException.from_exception(error, capture_locals=True)
        while detailed is not None:
            ours = [frame for frame in detailed.stack if "buildkit_session/" in frame.filename]
            self.texts += [str(frame.locals) for frame in ours]
            detailed = detailed.__cause__ or detailed.__context__  # type: ignore[assignment]  # ends with None

    def check(self, caplog: pytest.LogCaptureFixture) -> None:
        assert any("> secret 'env', 20 bytes" in record.getMessage() for record in caplog.records)
        formatter = logging.Formatter()
        self.texts += [formatter.format(record) for record in caplog.records]
        self.texts += [repr(vars(record)) for record in caplog.records]
        assert len(self.texts) > 100
        assert [text for text in self.texts if MARK in text] == []


def _fields(thing: object) -> Iterator[str]:
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        yield repr([getattr(thing, field.name) for field in dataclasses.fields(thing) if field.repr])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def run(daemon: Daemon, context: Path, seen: Seen, secrets: Any, **arguments: Any) -> str:
    """Build and note everything; returns what the step printed."""
    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().slow_callback_duration = 0  # so that it logs every callback
    arguments |= {"secrets": secrets, "network": "none", "no_cache": True}
    seen.note(BuildRequest.of(**arguments), Secrets(secrets), secrets)
    printed = b""
    async with bk.connect(daemon.address) as client, client.start(context, **arguments) as build:
        seen.note(client, build)
        async for event in build:
            seen.note(event)
            if isinstance(event, bk.VertexLog):
                printed += event.data
        result = await build.result()
        seen.note(result, *result.warnings, result.metadata, build.warnings)
    return printed.decode()


async def test_of_a_build_that_succeeds(
    daemon: Daemon, context: Path, secrets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = Seen()
    printed = await run(daemon, context, seen, secrets, build_args={"CODE": "0"})
    assert printed.split() == [str(sum(map(len, VALUES.values())))]
    seen.check(caplog)


async def test_of_a_build_that_fails(
    daemon: Daemon, context: Path, secrets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = Seen()
    with pytest.raises(bk.BuildError) as caught:
        await run(daemon, context, seen, secrets, build_args={"CODE": "3"})
    assert caught.value.step is not None
    seen.note_error(caught.value)
    seen.note(caught.value.step, caught.value.sources, caught.value.advice)
    seen.check(caplog)


async def test_of_a_function_that_repeats_it_when_it_fails(
    daemon: Daemon, context: Path, secrets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Of what it raises there is the type alone, in the error and its causes as in the log."""

    def fail() -> str:
        raise RuntimeError(f"vault says: {VALUES['call']}")

    caplog.set_level(logging.DEBUG)
    seen = Seen()
    with pytest.raises(bk.CallbackError, match="secret 'value': the function raised RuntimeError at ") as caught:
        await run(daemon, context, seen, {**secrets, "value": bk.secret.call(fail)}, build_args={"CODE": "0"})
    assert isinstance(caught.value.__cause__, bk.BuildError)
    seen.note_error(caught.value)
    seen.check(caplog)
