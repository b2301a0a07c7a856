"""Services of the caller's own and interceptors in whole builds: real daemons, and one that does as it is told."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from fake_engine import WAYS, fake_engine
from scripted_peer import PATIENCE, grpc_message

import buildkit_session as bk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fake_engine import FakeEngine

    from buildkit_session.testing import Daemon

    Proceed = Callable[[], Awaitable[None]]

pytestmark = pytest.mark.anyio

VALUE = b"hunter2-and-no-more"
GET = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
FILE_SYNC = "/moby.filesync.v1.FileSync/DiffCopy"
FILE_SEND = "/moby.filesync.v1.FileSend/DiffCopy"
HELLO = b"/example.v1.Greeter/Hello"


class Audit(list[bk.ServedCall]):
    """Keeps all calls."""

    async def __call__(self, call: bk.ServedCall, proceed: Proceed) -> None:
        self.append(call)
        await proceed()

    def of(self, method: str) -> list[bk.ServedCall]:
        return [call for call in self if call.method == method]


def told(call: bk.ServedCall) -> str:
    """All that a call says."""
    metadata = [call.metadata.get_all(key) for key in call.metadata]
    return repr([call, metadata, *(getattr(call, name) for name in dir(call) if name[0] != "_")])


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    """Builds one file that holds the secret ``a`` in capitals."""
    root = tmp_path / "context"
    root.mkdir()
    shutil.copy(busybox, root / "busybox")
    command = "/bin/busybox tr a-z A-Z </run/secrets/a >/out"
    (root / "Dockerfile").write_text(
        "FROM scratch AS run\nCOPY busybox /bin/busybox\n"
        f'RUN --mount=type=secret,id=a,required=true ["/bin/busybox", "sh", "-c", "{command}"]\n'
        "FROM scratch\nCOPY --from=run /out /\n"
    )
    return root


async def test_a_service_in_bytes_serves_a_build(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """What the library has a service for may be served by another one, which knows the wire and nothing else."""
    secrets = bk.Service("moby.buildkit.secrets.v1.Secrets")
    asked: list[bytes] = []

    @secrets.unary("GetSecret")
    async def get_secret(request: bytes) -> bytes:
        asked.append(request)
        if request[:3] != b"\x0a\x01a":
            raise bk.RpcError(bk.Status.NOT_FOUND, "not found")
        return b"\x0a" + bytes([len(VALUE)]) + VALUE

    async with bk.connect(daemon.address, services=[secrets]) as client:
        await client.build(context, outputs=[bk.output.local(tmp_path / "out")], network="none", no_cache=True)
    assert (tmp_path / "out" / "out").read_bytes() == VALUE.upper()
    assert b"\x0a\x01a" in {request[:3] for request in asked}


async def test_an_interceptor_audits_a_build(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """Each kind of call with its subject, its size and its end; no value is in any of it."""
    common, audit = Audit(), Audit()
    async with bk.connect(daemon.address, interceptors=[common]) as client:
        await client.build(
            context,
            secrets={"a": bk.secret.value(VALUE)},
            outputs=[bk.output.local(tmp_path / "out")],
            network="none",
            no_cache=True,
            interceptors=[audit],
        )
    assert (tmp_path / "out" / "out").read_bytes() == VALUE.upper()
    assert list(common) == list(audit)
    [secret] = [call for call in audit.of(GET) if call.subject == "a"]
    [sent] = audit.of(FILE_SEND)
    shared = {call.subject: call for call in audit.of(FILE_SYNC)}
    assert sent.subject == "0"
    assert {"context", "dockerfile"} <= set(shared)
    assert (secret.bytes_in, secret.bytes_out, secret.messages_out) == (3, 2 + len(VALUE), 1)
    assert sent.bytes_in > len(VALUE)
    assert shared["context"].bytes_out > (context / "busybox").stat().st_size
    assert {call.status for call in (secret, sent, *shared.values())} == {bk.Status.OK}
    assert len({call.session for call in audit}) == 1
    assert all(call.seconds > 0 for call in audit)
    text = "".join(map(told, audit)).lower()
    assert VALUE.decode() not in text
    assert str(tmp_path) not in text


async def test_an_interceptor_refuses_a_secret(daemon: Daemon, context: Path) -> None:
    """The build fails with the interceptor's text; the value was not even read."""
    reads: list[str] = []

    def read() -> bytes:
        reads.append("a")
        return VALUE

    async def refuse(call: bk.ServedCall, proceed: Proceed) -> None:
        if call.method == GET and call.subject == "a":
            raise bk.RpcError(bk.Status.PERMISSION_DENIED, "a is not for this project")
        await proceed()

    async with bk.connect(daemon.address) as client:
        with pytest.raises(bk.BuildError, match="a is not for this project"):
            await client.build(
                context,
                secrets={"a": bk.secret.call(read)},
                outputs=[bk.output.cacheonly()],
                network="none",
                no_cache=True,
                interceptors=[refuse],
            )
    assert not reads


async def test_a_handler_that_waits_leaves_health_alone_and_ends_with_the_build(daemon: Daemon, context: Path) -> None:
    """A daemon gets its sign of life meanwhile; cancelling the build cancels the handler."""
    secrets = bk.Service("moby.buildkit.secrets.v1.Secrets")
    waiting, healthy, cancelled = anyio.Event(), anyio.Event(), anyio.Event()

    @secrets.unary("GetSecret")
    async def get_secret(request: bytes) -> bytes:
        waiting.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        return request

    async def watch(call: bk.ServedCall, proceed: Proceed) -> None:
        await proceed()
        if waiting.is_set() and call.method == "/grpc.health.v1.Health/Check" and call.status is bk.Status.OK:
            healthy.set()

    async with bk.connect(daemon.address, services=[secrets], interceptors=[watch]) as client:
        keywords = bk.BuildKeywords(outputs=[bk.output.cacheonly()], network="none", no_cache=True)
        async with client.start(context, **keywords):
            with anyio.fail_after(PATIENCE):
                await healthy.wait()
            assert not cancelled.is_set()
        assert cancelled.is_set()


async def test_the_documented_example(daemon: Daemon, tmp_path: Path, busybox: Path) -> None:
    """What docs/services.md shows works as it is written there."""
    text = (Path(bk.__file__).parents[1] / "docs" / "services.md").read_text()
    program, dockerfile = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)[0] for kind in ("python", "dockerfile"))
    shutil.copy(busybox, tmp_path / "busybox")
    (tmp_path / "Dockerfile").write_text(dockerfile)
    environ = {**os.environ, "DOCKER_HOST": daemon.address}
    ran = await anyio.run_process([sys.executable, "-c", program], cwd=tmp_path, env=environ, stderr=None)
    assert (tmp_path / "out" / "copy").read_bytes() == b"token-of-npm"
    assert f"{GET} npm 5 14 OK" in ran.stdout.decode().splitlines()


# -- an Engine as a script --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return tmp_path


def greeting(answer: Callable[[], Awaitable[bytes]]) -> bk.Service:
    service = bk.Service("example.v1.Greeter")

    @service.unary("Hello")
    async def hello(_request: bytes) -> bytes:
        return await answer()

    return service


@pytest.mark.parametrize("way", WAYS)
async def test_own_methods_are_advertised_and_served(folder: Path, way: str) -> None:
    """Those of the client and of the build, like the library's own, on both ways to build."""
    heads: list[bytes] = []

    async def hello() -> bytes:
        return b"hello"

    async def fail() -> bytes:
        raise RuntimeError(VALUE.decode())

    faulty = bk.Service("example.v1.Faulty")

    @faulty.stream("Fail")
    async def fails(call: bk.IncomingCall[bytes, bytes]) -> None:
        await call.send(await fail())

    async def script(engine: FakeEngine) -> None:
        http = await engine.asked_session()
        heads.append(http.head)
        session = await engine.take_up(http)
        answer = await engine.build()
        greeted = await session.call(HELLO, b"")
        assert greeted.bodies == [b"hello"]
        failed = await session.call(b"/example.v1.Faulty/Fail", b"")
        assert (failed.status, failed.message) == (b"13", b"the client failed: RuntimeError")
        assert (await session.call(HELLO + b"s", b"")).status == b"12"
        await answer.fail("no more")
        await answer.end()

    audit = Audit()
    async with (
        fake_engine(script, way=way) as engine,
        bk.connect(engine.address, services=[greeting(hello)], interceptors=[audit]) as client,
    ):
        with pytest.raises(bk.BuildError, match="no more") as caught:
            await client.build(folder, services=[faulty], outputs=[bk.output.local(folder / "out")])
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.__cause__.__notes__ == ["raised as the daemon called /example.v1.Faulty/Fail"]
    for method in (HELLO, b"/example.v1.Faulty/Fail", b"/grpc.health.v1.Health/Check"):
        assert b"X-Docker-Expose-Session-Grpc-Method: " + method + b"\r\n" in heads[0]
    assert [call.status for call in audit] == [bk.Status.OK, bk.Status.INTERNAL, bk.Status.UNIMPLEMENTED]
    assert VALUE.decode() not in "".join(map(told, audit))


@pytest.mark.parametrize(
    ("name", "method", "keywords"),
    [
        ("moby.buildkit.secrets.v1.Secrets", "GetSecret", {"secrets": {"a": bk.secret.value(VALUE)}}),
        ("moby.filesync.v1.filesync", "diffcopy", {}),
        ("grpc.health.v1.Health", "Check", {}),
        ("example.v1.Greeter", "Hello", {}),
    ],
)
async def test_a_method_that_is_served_already(folder: Path, name: str, method: str, keywords: dict[str, Any]) -> None:
    """It is named, and no session comes about."""

    async def script(engine: FakeEngine) -> None:
        await engine.asked_session()
        pytest.fail("the session must not be asked for")

    async def hello() -> bytes:
        return b""

    other = bk.Service(name)
    other.unary(method)(hello)
    async with (
        fake_engine(script) as engine,
        bk.connect(engine.address, services=[greeting(hello)]) as client,
    ):
        with pytest.raises(bk.InputError, match=rf"/{name}/{method} is served already"):
            await client.build(folder, services=[other], outputs=[bk.output.local(folder / "out")], **keywords)


async def test_cancelling_the_build_cancels_what_it_serves(folder: Path) -> None:
    """A handler and an interceptor that wait; Health is answered all the while."""
    ends: list[str] = []

    async def wait() -> bytes:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("handler")
        return b""

    async def around(call: bk.ServedCall, proceed: Proceed) -> None:
        try:
            if call.subject == "wait":
                await anyio.sleep_forever()
            await proceed()
        finally:
            ends.append(f"interceptor {call.method}")

    healthy = anyio.Event()

    async def script(engine: FakeEngine) -> None:
        session = await engine.session()
        await engine.build()
        for path in (HELLO, b"/example.v1.Greeter/Wait"):
            stream = await session.start(path)
            await session.send(stream, grpc_message(b""), end=True)
        assert (await session.call(b"/grpc.health.v1.Health/Check", b"")).status == b"0"
        healthy.set()
        await anyio.sleep_forever()

    service = greeting(wait)
    service.unary("Wait", subject=lambda _request: "wait")(wait)
    async with (
        fake_engine(script) as engine,
        bk.connect(engine.address, interceptors=[around]) as client,
        anyio.create_task_group() as tasks,
    ):

        async def build() -> None:
            await client.build(folder, services=[service], outputs=[bk.output.local(folder / "out")])

        tasks.start_soon(build)
        with anyio.fail_after(PATIENCE):
            await healthy.wait()
        assert ends == ["interceptor /grpc.health.v1.Health/Check"]
        tasks.cancel_scope.cancel()
    assert sorted(ends[1:]) == [
        "handler",
        "interceptor /example.v1.Greeter/Hello",
        "interceptor /example.v1.Greeter/Wait",
    ]
