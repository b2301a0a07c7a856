"""Functions that find credentials: how often they are asked, and what becomes of their failures."""

from __future__ import annotations

import functools
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from calls import ScriptedCall, serve

from buildkit_session.errors import CallbackError, InputError
from buildkit_session.messages.moby.filesync.v1 import CredentialsRequest
from buildkit_session.registry_auth import make_auth
from buildkit_session.services import called_credentials
from buildkit_session.services.auth import Auth
from buildkit_session.services.called_credentials import MARGIN, CalledCredentials
from buildkit_session.services.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from buildkit_session.services.called_credentials import Found

pytestmark = pytest.mark.anyio

ALICE = Credentials("alice", "hunter2")


class Function:
    """Answers as it is told, and counts."""

    def __init__(self, answer: Any = ALICE) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.running = 0
        self.go_on = anyio.Event()
        self.go_on.set()

    async def __call__(self, host: str) -> Any:
        self.asked.append(host)
        self.running += 1
        try:
            await self.go_on.wait()
        finally:
            self.running -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """A list of one: the time that it is."""
    now = [datetime.now(UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            assert tz is UTC
            return now[0]

    monkeypatch.setattr(called_credentials, "datetime", Clock)
    return now


async def test_without_an_end_every_question_is_asked() -> None:
    function = Function(("alice", "hunter2"))
    source = CalledCredentials(function)
    for host in ("a", "a", "b"):
        assert await source.find(host) == ALICE
    assert function.asked == ["a", "a", "b"]


@pytest.mark.parametrize(("life", "kept"), [(3600, 3600 - MARGIN.seconds), (20, 18), (0, 0), (-5, 0)])
async def test_an_answer_is_kept_until_shortly_before_its_end(clock: list[datetime], life: int, kept: int) -> None:
    function = Function(Credentials("alice", "hunter2", expires_at=clock[0] + timedelta(seconds=life)))
    source = CalledCredentials(function)
    begun = clock[0]
    await source.find("a")
    for later, asked in ((kept - 1, 1), (kept + 1, 2)):
        if later > 0:
            clock[0] = begun + timedelta(seconds=later)
            assert await source.find("a") == function.answer
            assert len(function.asked) == asked
    await source.find("b")
    assert function.asked[-1] == "b"


async def test_questions_at_once_share_a_call() -> None:
    function = Function()
    function.go_on = anyio.Event()
    source = CalledCredentials(function)
    found: list[Credentials | None] = []

    async def ask(host: str) -> None:
        found.append(await source.find(host))

    async with anyio.create_task_group() as tasks:
        for host in ["a"] * 5 + ["b"] * 5:
            tasks.start_soon(ask, host)
        await anyio.wait_all_tasks_blocked()
        assert sorted(function.asked) == ["a", "b"]
        function.go_on.set()
    assert found == [ALICE] * 10


async def test_a_failure_is_shared_too() -> None:
    """Each gets an error of its own, all with the same cause; the next question is asked anew."""
    function = Function(RuntimeError("hunter2"))
    function.go_on = anyio.Event()
    source = CalledCredentials(function)
    errors: list[CallbackError] = []

    async def ask() -> None:
        with pytest.raises(CallbackError, match=r"of a raised RuntimeError at \w+\.py:\d+$") as caught:
            await source.find("a")
        errors.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        function.go_on.set()
    assert len(function.asked) == 1
    assert len(set(map(id, errors))) == 3
    assert {error.__cause__ or error.__context__ for error in errors} == {None}
    function.answer = ALICE
    assert await source.find("a") == ALICE


async def test_a_call_is_cancelled_with_who_asked() -> None:
    """Who else waits is answered all the same."""
    function = Function()
    function.go_on = anyio.Event()
    source = CalledCredentials(function)
    found: list[Credentials | None] = []

    async def ask(*, task_status: Any) -> None:
        with anyio.CancelScope() as scope:
            task_status.started(scope)
            found.append(await source.find("a"))

    async with anyio.create_task_group() as tasks:
        first, second = await tasks.start(ask), await tasks.start(ask)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await until(lambda: (len(function.asked), function.running) == (2, 1))
        second.cancel()
        await until(lambda: function.running == 0)
        await tasks.start(ask)
        function.go_on.set()
    assert found == [ALICE]


async def test_a_stuck_function_is_left() -> None:
    function = Function()
    function.go_on = anyio.Event()
    with pytest.raises(CallbackError, match=r"asked for a, did not answer within 0\.1 s"):
        await Auth(CalledCredentials(function), patience=0.1).find("a")
    assert function.running == 0


async def test_a_plain_function_does_not_block() -> None:
    """It runs in a thread; a stuck one is left there, and takes no thread from anybody else."""
    released = threading.Event()
    begun = threading.Event()

    def stuck(_host: str) -> Found:
        begun.set()
        released.wait(60)
        return None

    source = CalledCredentials(stuck)
    try:
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(source.find, str(number))
            await anyio.wait_all_tasks_blocked()
            assert await anyio.to_thread.run_sync(begun.wait, 60)
            tasks.cancel_scope.cancel()
    finally:
        released.set()
    assert await CalledCredentials(lambda host: (host, "hunter2")).find("a") == Credentials("a", "hunter2")


async def test_functions_of_other_kinds() -> None:
    async def fetch(prefix: str, host: str) -> tuple[str, str]:
        return prefix, host

    assert await CalledCredentials(functools.partial(fetch, "x")).find("a") == Credentials("x", "a")
    assert await CalledCredentials(lambda host: fetch("y", host)).find("a") == Credentials("y", "a")


@pytest.mark.parametrize("answer", ["hunter2", ("hunter2",), ("alice", "hunter2", ""), ("alice", b"hunter2"), 7, {}])
async def test_other_answers_are_errors_that_show_nothing(answer: Any) -> None:
    with pytest.raises(InputError, match=r"of a must return Credentials, a user and a password, or None") as caught:
        await CalledCredentials(Function(answer)).find("a")
    assert "hunter2" not in str(caught.value)


async def test_answers_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon may ask about any number of hosts."""
    monkeypatch.setattr(called_credentials, "MAX_KEPT", 3)
    source = CalledCredentials(Function(Credentials("a", "b", expires_at=datetime.now(UTC) + timedelta(hours=1))))
    for number in range(10):
        await source.find(str(number))
    assert len(source._kept) == 3


@pytest.mark.parametrize(
    "host", ["reg.example", "reg.example:443", "REG.example:5000", "a.reg.example:5000", "docker.io", "a/b", "a\nb", ""]
)
async def test_a_function_for_one_host_hears_of_no_other(host: str) -> None:
    function, hub = Function(), Function()
    auth = make_auth({"reg.example:5000": function, "docker.io": hub, "plain.example": ("u", "p")})
    assert auth is not None
    (answer,) = await serve(auth, "Credentials", ScriptedCall([CredentialsRequest(host=host)]))
    assert (answer.username, answer.secret) == ("", "")
    assert function.asked == hub.asked == []
    assert await auth.find("reg.example:5000") == ALICE
    assert await auth.find("registry-1.docker.io") == ALICE
    assert (function.asked, hub.asked) == (["reg.example:5000"], ["registry-1.docker.io"])


async def test_a_function_for_all_hosts_gets_each_exactly_as_asked() -> None:
    """But what cannot be a host is asked of nobody."""
    function = Function(None)
    auth = make_auth(function)
    assert auth is not None
    for host in ("REG.example:5000", "[::1]:5000", "https://reg.example", "a b", "ä.example", "x" * 300, ""):
        assert await auth.find(host) is None
    assert function.asked == ["REG.example:5000", "[::1]:5000"]


async def test_builds_share_no_answers() -> None:
    """Even where they have the same function: it may answer for the user of the moment."""
    function = Function(Credentials("alice", "hunter2", expires_at=datetime.now(UTC) + timedelta(hours=1)))
    for auth in (make_auth(function), make_auth({"a": function})):
        assert auth is not None
        await auth.find("a")
        await auth.find("a")
    assert function.asked == ["a", "a"]


async def test_nothing_of_a_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(CallbackError):
        await CalledCredentials(Function(RuntimeError("hunter2"))).find("a")
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"password": None}, "the password of credentials must be a text, not a NoneType"),
        ({"username": b"hunter2"}, "the username of credentials must be a text, not a bytes"),
        ({"identity_token": "hunter2\ud800"}, "the identity_token of credentials has characters that cannot be sent"),
        ({"expires_at": "hunter2"}, "expires_at of credentials must be a datetime, not a str"),
        ({"expires_at": datetime(2030, 1, 1)}, "needs a time zone"),  # noqa: DTZ001 - the mistake
    ],
)
async def test_credentials_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Credentials(**fields)
    assert "hunter2" not in str(caught.value)
