"""Secrets: where they come from, what is refused early, and that no value is shown."""

from __future__ import annotations

import os
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from buildkit_session.errors import CallbackError, InputError
from buildkit_session.request import secret
from buildkit_session.request.secret import MAX_SIZE, Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HIDDEN = "hunter2"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("id=x,env=Y", "x", secret.env("Y")),
        ("id=x,src=p", "x", secret.file("p")),
        ("ID=x,Source=p", "x", secret.file("p")),
        ('id=x,"src=a,b"', "x", secret.file("a,b")),
        ("id=x,type=file,src=p", "x", secret.file("p")),
        ("id=x,type=env,src=Y", "x", secret.env("Y")),
        ("id=x,type=env,src=p,env=Y", "x", secret.env("Y")),
        ("id=x,type=file,src=p,env=Y", "x", secret.env("Y")),
        ("id=KNOWN", "KNOWN", secret.env("KNOWN")),
        ("id=KNOWN,type=file", "KNOWN", secret.env("KNOWN")),
        ("id=unknown", "unknown", secret.file("unknown")),
        ("id=a,id=b,src=~/p", "b", secret.file("~/p")),
    ],
)
def test_what_buildx_reads(text: str, name: str, expected: Secret) -> None:
    assert secret.parse(text, {"KNOWN": ""}) == (name, expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("src=p", "secret missing ID"),
        ("id=,src=p", "secret missing ID"),
        ("id=x,hunter2", "field 2 of a secret must be a key=value pair"),
        ("hunter2", "must be a key=value pair"),
        ("id=x,value=hunter2", "unexpected key 'value' of a secret; write id=NAME,src=PATH or id=NAME,env=VARIABLE"),
        ("id=x,type=vault", 'unsupported secret type "vault"'),
        ('id=x,src="hunter2"', "misplaced quote in a secret after character 5"),
    ],
)
def test_what_buildx_refuses(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        secret.parse(text, {})
    assert message in str(caught.value)
    assert HIDDEN not in str(caught.value)


async def _async_value() -> str:
    await anyio.lowlevel.checkpoint()
    return HIDDEN


def _sources(tmp_path: Path) -> list[Secret]:
    (tmp_path / "file").write_text(HIDDEN)

    def gives_an_awaitable() -> Awaitable[str]:
        return _async_value()

    functions = (lambda: HIDDEN, HIDDEN.encode, _async_value, gives_an_awaitable)
    return [
        secret.env("TEST_SECRET"),
        secret.file(tmp_path / "file"),
        secret.value(HIDDEN),
        secret.value(HIDDEN.encode()),
        *map(secret.call, functions),  # type: ignore[arg-type]  # of many types
    ]


def test_every_source_gives_the_value_and_shows_it_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SECRET", HIDDEN)
    for source in _sources(tmp_path):
        source.check()
        assert anyio.run(source.read) == HIDDEN.encode()
        assert HIDDEN not in repr(source) + str(source)


def test_values_may_be_empty_or_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"\xff\0")
    monkeypatch.setitem(os.environb, b"TEST_SECRET", b"\xff")
    assert anyio.run(secret.file(tmp_path / "file").read) == b"\xff\0"
    assert anyio.run(secret.env("TEST_SECRET").read) == b"\xff"
    assert anyio.run(secret.value(b"").read) == b""
    assert anyio.run(secret.call(lambda: None).read) is None


def test_a_value_is_read_again_each_time(tmp_path: Path) -> None:
    source = secret.file(tmp_path / "file")
    for text in ("one", "two"):
        (tmp_path / "file").write_text(text)
        assert anyio.run(source.read) == text.encode()


def test_what_is_missing_is_named_before_a_build_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_SECRET", raising=False)
    with pytest.raises(InputError, match="environment variable TEST_SECRET is not set"):
        secret.env("TEST_SECRET").check()
    with pytest.raises(InputError, match=r"failed to stat .*/missing: No such file"):
        secret.file(tmp_path / "missing").check()
    assert anyio.run(secret.env("TEST_SECRET").read) is None
    with pytest.raises(InputError, match="cannot be read: No such file"):
        anyio.run(secret.file(tmp_path / "missing").read)


def test_an_id_alone_that_is_nothing_names_both_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("missing_secret", raising=False)
    _, source = secret.parse("id=missing_secret")
    with pytest.raises(
        InputError, match=r"failed to stat missing_secret: .*, and environment variable missing_secret is"
    ):
        source.check()


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe would block the build, or be empty at the second step; links are followed, as upstream does."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text(HIDDEN)
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(InputError, match="not a regular file"):
            secret.file(path).check()
        with pytest.raises(InputError, match=r"not a regular file|Is a directory"):
            anyio.run(secret.file(path).read)
    assert anyio.run(secret.file(tmp_path / "link").read) == HIDDEN.encode()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o000)
    with pytest.raises(InputError, match="no permission"):
        secret.file(tmp_path / "file").check()


def test_the_largest_value_and_one_byte_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size, sources in (
        (MAX_SIZE, [secret.file(path), secret.value(b"x" * MAX_SIZE), secret.call(lambda: b"x" * MAX_SIZE)]),
        (MAX_SIZE + 1, [secret.file(path), secret.call(lambda: b"x" * (MAX_SIZE + 1))]),
    ):
        path.write_bytes(b"x" * size)
        for source in sources:
            if size == MAX_SIZE:
                assert len(anyio.run(source.read) or b"") == size
            else:
                with pytest.raises(InputError, match="too big"):
                    anyio.run(source.read)
    with pytest.raises(InputError, match="too big"):
        secret.file(path).check()
    with pytest.raises(InputError, match="too big"):
        secret.value(b"x" * (MAX_SIZE + 1)).check()


def test_a_file_that_grows_behind_its_size_is_bounded() -> None:
    """Files of /proc say that they are empty."""
    content = anyio.run(secret.file("/proc/self/status").read)
    assert content.startswith(b"Name:")


def test_a_function_that_fails_is_named_without_its_text() -> None:
    def fail() -> bytes:
        raise RuntimeError(HIDDEN)

    line = fail.__code__.co_firstlineno + 1
    with pytest.raises(CallbackError, match=rf"raised RuntimeError at test_secret\.py:{line}$") as caught:
        anyio.run(secret.call(fail).read)
    assert HIDDEN not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_function_that_does_not_take_what_it_is_called_with() -> None:
    with pytest.raises(CallbackError, match=r"raised TypeError as it was called$"):
        anyio.run(secret.call(lambda missing: missing).read)  # type: ignore[arg-type, misc]  # what is tested


def test_a_function_that_returns_nonsense_is_told_so() -> None:
    with pytest.raises(InputError, match="must return bytes, a text or None, not int"):
        anyio.run(secret.call(lambda: 3).read)  # type: ignore[arg-type, return-value]  # what is tested


def test_an_error_of_ours_keeps_its_words() -> None:
    def fail() -> bytes:
        raise InputError("log in first")

    with pytest.raises(InputError, match="log in first"):
        anyio.run(secret.call(fail).read)


def test_an_asynchronous_function_is_cancelled_with_its_caller() -> None:
    cancelled = anyio.Event()

    async def hang() -> bytes:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        return b""

    async def main() -> None:
        with anyio.move_on_after(0):
            await secret.call(hang).read()
        assert cancelled.is_set()

    anyio.run(main)


def test_functions_that_are_stuck_leave_threads_for_others() -> None:
    """However often a daemon asks; the loop's own threads read and write its files."""
    go_on = threading.Event()

    def stuck() -> str:
        go_on.wait(60)
        return HIDDEN

    async def main() -> list[bytes | None]:
        values: list[bytes | None] = []

        async def ask() -> None:
            values.append(await secret.call(stuck).read())

        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(30):
                await anyio.to_thread.run_sync(go_on.set)
        return values

    assert anyio.run(main) == [HIDDEN.encode()] * 60


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: secret.env(""), "takes the name of an environment variable; for a value take"),
        (lambda: secret.env("A=B"), r"variable; for a value take secret\.value\(\)$"),
        (lambda: secret.env(cast("str", None)), "takes the name of an environment variable"),
        (lambda: secret.file(cast("str", None)), "a secret file must be a path, not a NoneType"),
        (lambda: secret.file(""), "must not be empty"),
        (lambda: secret.value(cast("bytes", 3)), "must be bytes or a text, not an int"),
        (lambda: secret.call(cast("Callable[[], bytes]", "x")), "takes a function, not a str"),
    ],
)
def test_what_cannot_be_a_source(make: Callable[[], Secret], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_anything_that_can_be_read_is_a_secret() -> None:
    class Vault(Secret):
        async def read(self) -> bytes | None:
            return b"x"

    Vault().check()
    assert anyio.run(Vault().read) == b"x"


def test_no_value_is_in_a_traceback_of_ours() -> None:
    with pytest.raises(InputError) as caught:
        secret.value((HIDDEN * MAX_SIZE).encode()).check()
    assert HIDDEN not in "".join(traceback.format_exception(caught.value))
