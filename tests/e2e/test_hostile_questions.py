"""Questions about sources and outputs from a daemon that asks oddly: an answer or an error, and nothing hangs."""

from __future__ import annotations

import logging
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from fake_buildkit import answering, fake_buildkit
from leftovers import nothing_left

import buildkit_session as bk
from buildkit_session import policy
from buildkit_session.grpc.codec import BYTES
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.messages.moby.buildkit.v1 import frontend
from buildkit_session.messages.moby.buildkit.v1.apicaps import ApiCap
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy.policysession import CheckPolicyRequest
from buildkit_session.messages.moby.exporter.v1 import FinalizeExportRequest, FindExportersRequest
from buildkit_session.messages.pb import Platform
from buildkit_session.messages.pb.ops import SourceOp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from buildkit_session.grpc.channel import Channel
    from buildkit_session.grpc.incoming_call import IncomingCall

    Attack = Callable[[Channel], Awaitable[None]]

pytestmark = pytest.mark.anyio

FIND = "/moby.exporter.v1.Exporter/FindExporters"
FINALIZE = "/moby.exporter.v1.Exporter/FinalizeExport"
CHECK = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy"
CAPABILITIES = frontend.PongResponse(
    llb_caps=[ApiCap(id=name, enabled=True) for name in ("exporter.session", "source.policy.session")]
)
ALLOWED = bytes.fromhex("0a00")
MANY = 10_000


async def ask(channel: Channel, path: str, message: bytes) -> bytes | int:
    """The answer as it is on the wire, or the status of one that failed."""
    try:
        async with channel.call(path, request=BYTES, response=BYTES) as call:
            await call.send(message)
            call.end()
            return await call.only_response()
    except bk.RpcError as error:
        return error.code


def find(**fields: Any) -> bytes:
    return bytes(FindExportersRequest(**fields))


def about(identifier: str, **fields: Any) -> bytes:
    """A question about a source."""
    source = frontend.ResolveSourceMetaResponse(source=SourceOp(identifier, fields.pop("attrs", {})), **fields)
    return bytes(CheckPolicyRequest(source=source, platform=Platform(os="linux", architecture="arm", variant="v7")))


@asynccontextmanager
async def attacked(folder: Path, attack: Attack) -> AsyncIterator[bk.Client]:
    """A client whose builds succeed once the attack is over."""

    async def solve(call: IncomingCall[bytes, bytes]) -> None:
        if v1.SolveRequest.parse(await call.recv() or b"").internal:
            await anyio.sleep_forever()  # the question about capabilities
        await attack(await buildkit.session())
        await call.send(bytes(v1.SolveResponse({"a": "b"})))

    scripts = {"Control/Solve": solve, "LLBBridge/Ping": answering(bytes(CAPABILITIES))}
    async with nothing_left(folder), fake_buildkit(scripts) as buildkit, bk.connect(buildkit.address) as client:
        yield client


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return tmp_path


class Chooser:
    def __init__(self) -> None:
        self.asked: list[bk.ExportRequest] = []
        self.told: list[Mapping[str, str]] = []
        self.stalled = False

    async def find(self, request: bk.ExportRequest) -> list[str]:
        self.asked.append(request)
        await self._wait()
        return []

    async def finalize(self, response: Mapping[str, str]) -> None:
        self.told.append(response)
        await self._wait()

    async def _wait(self) -> None:
        await (anyio.sleep_forever() if self.stalled else anyio.lowlevel.checkpoint())


async def test_each_question_about_outputs_is_answered_once(context: Path) -> None:
    """In its order, however large, and what cannot be read is no question."""
    chooser, answers = Chooser(), []

    async def attack(channel: Channel) -> None:
        answers.append(await ask(channel, FINALIZE, b""))
        answers.append(await ask(channel, FIND, b"\xff"))
        refs = [f"ref{number}" for number in range(MANY)]
        answers.append(await ask(channel, FIND, find(refs=refs, metadata={"a": b"x" * 1_000_000, "": b""})))
        answers.append(await ask(channel, FIND, b""))
        response = bytes(FinalizeExportRequest({str(number): "x" for number in range(MANY)}))
        answers.extend([await ask(channel, FINALIZE, response) for _ in range(2)])

    async with attacked(context, attack) as client:
        await client.build(context, session_exporter=chooser)
    again = Status.FAILED_PRECONDITION
    assert answers == [again, Status.INTERNAL, b"", again, b"", again]
    (asked,) = chooser.asked
    assert len(asked.refs) == MANY
    assert len(asked.metadata["a"]) == 1_000_000
    assert [len(told) for told in chooser.told] == [MANY]


async def test_many_at_once_ask_for_outputs(context: Path) -> None:
    chooser, answers = Chooser(), []

    async def attack(channel: Channel) -> None:
        async def one() -> None:
            answers.append(await ask(channel, FIND, b""))

        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(one)

    async with attacked(context, attack) as client:
        await client.build(context, session_exporter=chooser)
    assert len(chooser.asked) == 1
    assert sorted(map(str, answers)) == sorted(["b''"] + ["9"] * 199)


async def test_success_before_the_choice(context: Path) -> None:
    """Not asked at all, asked and not waited for: what was to be exported is not."""

    async def not_asked(_channel: Channel) -> None:
        await anyio.lowlevel.checkpoint()

    async def gives_up(channel: Channel) -> None:
        with anyio.move_on_after(0.2):
            await ask(channel, FIND, b"")

    for attack in (not_asked, gives_up):
        chooser = Chooser()
        chooser.stalled = True
        async with attacked(context, attack) as client:
            with pytest.raises(bk.RemoteProtocolError, match="has not let the session exporter choose"):
                await client.build(context, session_exporter=chooser)
        assert chooser.told == []


async def test_success_after_a_choice_that_failed(context: Path) -> None:
    """What the caller's code has raised is the first cause."""

    async def fail(_request: bk.ExportRequest) -> list[bk.output.Output]:
        raise OSError("the caller's")

    async def attack(channel: Channel) -> None:
        assert await ask(channel, FIND, b"") == Status.INTERNAL

    async with attacked(context, attack) as client:
        with pytest.raises(bk.SessionError) as caught:
            await client.build(context, session_exporter=fail)
    chain: list[BaseException] = [caught.value]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    assert str(chain[-1]) == "the caller's"


async def test_success_before_the_end_was_heard_of(context: Path) -> None:
    chooser = Chooser()

    async def attack(channel: Channel) -> None:
        await ask(channel, FIND, b"")
        chooser.stalled = True
        with anyio.move_on_after(0.2):
            await ask(channel, FINALIZE, b"")

    async with attacked(context, attack) as client:
        with pytest.raises(bk.RemoteProtocolError, match="has not finalized"):
            await client.build(context, session_exporter=chooser)
    assert len(chooser.told) == 1


async def test_odd_questions_about_sources(context: Path) -> None:
    """Nothing that names no source is allowed, and an answer says what it means."""
    seen: list[policy.Source] = []
    answers: list[bytes | int] = []

    decisions: dict[str, policy.Decision] = {
        "deny": policy.deny("x"),
        "same": policy.convert("same://"),
        "other": policy.convert("b://", {"c": "d"}),
        "kept": policy.convert("b://"),
    }

    def decide(source: policy.Source) -> policy.Decision:
        seen.append(source)
        return decisions.get(source.scheme, policy.allow())

    async def attack(channel: Channel) -> None:
        chain = frontend.AttestationChain(blobs={"sha256:0": frontend.Blob(data=b"0")})
        image = frontend.ResolveSourceImageResponse("sha256:1", b"x" * 3_000_000, chain)
        none = (b"", b"\xff", b"\x12\x00", about(""))
        odd = (about("scheme"), about("\0"), about("a://", attrs={str(number): "x" for number in range(MANY)}))
        plain = (about("image://", image=image), about("deny://"), about("same://", attrs={"e": "f"}))
        turned = (about("other://"), about("kept://", attrs={"c": "d"}))
        answers.extend([await ask(channel, CHECK, message) for message in (*none, *odd, *plain, *turned)])

    async with attacked(context, attack) as client:
        await client.build(context, source_policy=decide)
    refused, unread = Status.INVALID_ARGUMENT, Status.INTERNAL
    assert answers[:4] == [refused, unread, refused, refused]
    assert answers[4:8] == [ALLOWED] * 4
    deny = "0a07 0801 1203 0a0178"  # DENY, and a message
    convert = "0a12 0802 1a0e 0a04623a2f2f 1206 0a0163 120164"  # CONVERT, and what into
    assert answers[8:] == [bytes.fromhex(deny), ALLOWED, *[bytes.fromhex(convert)] * 2]
    assert len(seen) == 8
    found = seen[3].image
    assert found is not None
    assert (found.digest, len(found.config), found.attestations) == (
        *("sha256:1", 3_000_000),
        policy.AttestationChain(blobs={"sha256:0": b"0"}),
    )
    assert seen[3].platform == "linux/arm/v7"


async def test_a_source_with_a_login_that_nobody_has_decided_about(
    context: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What an URL has of secrets is in no log and no error."""

    async def attack(channel: Channel) -> None:
        for identifier in ("https://me:hunter2@host/a?signature=hunter2", "git://hunter2@host/a"):
            await ask(channel, CHECK, about(identifier))
            await ask(channel, CHECK, about(identifier.replace("host", "allowed")))
        raise bk.RpcError(Status.UNKNOWN, "nobody has decided")

    def decide(source: policy.Source) -> policy.Decision:
        if "allowed" in source.identifier:
            return policy.allow()
        raise ZeroDivisionError

    caplog.set_level(logging.DEBUG)
    async with attacked(context, attack) as client:
        with pytest.raises(bk.CallbackError, match=r"about https://host/a.*ZeroDivisionError") as caught:
            await client.build(context, source_policy=decide)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "https://allowed/a" in caplog.text


async def test_many_sources_at_once(context: Path) -> None:
    """They are decided side by side; those that are given up are cancelled."""
    answers: list[bytes | int] = []
    running = most = 0

    async def decide(source: policy.Source) -> policy.Decision:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await anyio.sleep(3600 if source.scheme == "hang" else 0.05)
        finally:
            running -= 1
        return policy.allow()

    async def attack(channel: Channel) -> None:
        async def one(number: int) -> None:
            answers.append(await ask(channel, CHECK, about(f"a://{number}")))

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(one, number)
        with anyio.move_on_after(0.2):
            await ask(channel, CHECK, about("hang://"))

    async with attacked(context, attack) as client:
        await client.build(context, source_policy=decide)
    assert answers == [ALLOWED] * 200
    assert most > 1
    assert running == 0
