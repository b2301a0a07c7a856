"""What is slow on this side, in every service, is waited for without holding up the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import socket
import sys
import tarfile
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import pytest
from fake_buildkit import answering, fake_buildkit
from fake_buildkit import silent as never

import buildkit_session as bk
from buildkit_session import policy
from buildkit_session.fsutil.wire import PACKETS
from buildkit_session.grpc.codec import BYTES
from buildkit_session.messages.containerd.services.content.v1 import (
    ReadContentRequest,
    WriteAction,
    WriteContentRequest,
)
from buildkit_session.messages.fsutil.types import Packet, PacketPacketType
from buildkit_session.messages.grpc.health.v1 import HealthCheckRequest
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.messages.moby.buildkit.secrets.v1 import GetSecretRequest
from buildkit_session.messages.moby.buildkit.v1 import frontend
from buildkit_session.messages.moby.buildkit.v1.apicaps import ApiCap
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy.policysession import CheckPolicyRequest
from buildkit_session.messages.moby.exporter.v1 import FinalizeExportRequest, FindExportersRequest
from buildkit_session.messages.moby.filesync.v1 import (
    BytesMessage,
    CredentialsRequest,
    FetchTokenRequest,
    GetTokenAuthorityRequest,
)
from buildkit_session.messages.moby.sshforward.v1 import CheckAgentRequest
from buildkit_session.messages.pb.ops import SourceOp
from buildkit_session.services.agent_messages import LIST, Identity, identities_answer
from buildkit_session.services.agent_protocol import framed
from buildkit_session.services.content import STORE_ID
from buildkit_session.services.filesend import EXPORTER_ID
from buildkit_session.services.oci_index import add_manifest
from buildkit_session.services.ssh import AGENT_ID
from buildkit_session.services.ssh_wire import string

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from betterproto2 import Message

    from buildkit_session.grpc.channel import Channel
    from buildkit_session.grpc.incoming_call import IncomingCall

    Ask = Callable[[], Awaitable[object]]

pytestmark = pytest.mark.anyio

T = TypeVar("T")

PAUSE = 0.4
"""Seconds that everything takes here; what holds up the loop makes it that late."""

FUNCTION_HOST, HELPER_HOST, PASSWORD_HOST = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
KEY = Identity(string(b"ssh-ed25519") + bytes(100), b"key")
SIGN = b"\x0d" + string(KEY.blob) + string(b"data") + bytes(4)
CAPABILITIES = frontend.PongResponse(
    llb_caps=[ApiCap(id=name, enabled=True) for name in ("exporter.session", "source.policy.session")]
)
DISK = ("open", "read", "pread", "write", "stat", "lstat", "scandir", "listdir", "fsync", "rename", "replace", "mkdir")

ELSEWHERE = {"_pytest", "asyncio", "importlib", "subprocess"}
"""Reads pipes that do not block, starts programs, and loads code: none of these use files of a build."""


def slowly(answer: T) -> Callable[..., T]:
    """A plain function that takes its time."""

    def function(*_: object) -> T:
        time.sleep(PAUSE)
        return answer

    return function


def callers(number: int) -> Iterator[str]:
    """The packages of whoever has called the caller."""
    frame = sys._getframe(2)
    for _ in range(number):
        yield frame.f_globals["__name__"].partition(".")[0]
        if frame.f_back is None:
            return
        frame = frame.f_back


@contextmanager
def slow_disk() -> Iterator[None]:
    """Whoever uses a file on the event loop waits for long; in threads a little, or the test would take minutes."""
    loop = threading.get_ident()

    def waiting(real: Any) -> Any:
        def function(*arguments: Any, **options: Any) -> Any:
            on_loop = threading.get_ident() == loop and not ELSEWHERE & {*callers(3)}
            time.sleep(PAUSE if on_loop else PAUSE / 100)
            return real(*arguments, **options)

        return function

    with pytest.MonkeyPatch.context() as patched:
        for name in DISK:
            patched.setattr(os, name, waiting(getattr(os, name)))
        patched.setattr(io, "open", waiting(io.open))
        yield


class Lateness:
    """How late a task is that wakes every millisecond, in seconds, by what else is done meanwhile.

    A thread does the same: as late as that one, the task is by no fault of the loop's.
    """

    def __init__(self) -> None:
        self.of_task: dict[str, float] = {}
        self.of_thread: dict[str, float] = {}
        self._doing = ""
        self._ended = False

    def note(self, doing: str) -> None:
        """Say what is done from now on."""
        self._doing = doing
        self.of_task[doing] = self.of_thread[doing] = 0.0

    async def watch(self) -> None:
        thread = threading.Thread(target=self._watch_in_thread)
        thread.start()
        try:
            while True:
                before, doing = time.monotonic(), self._doing
                await anyio.sleep(0.001)
                self.of_task[doing] = max(self.of_task[doing], time.monotonic() - before)
        finally:
            self._ended = True
            thread.join()

    def _watch_in_thread(self) -> None:
        while not self._ended:
            before, doing = time.monotonic(), self._doing
            time.sleep(0.001)
            self.of_thread[doing] = max(self.of_thread[doing], time.monotonic() - before)

    def late(self) -> dict[str, float]:
        """What has held up the loop."""
        found = {name: late - self.of_thread[name] for name, late in self.of_task.items()}
        return {name: late for name, late in found.items() if late > found["nothing"] + PAUSE / 2}


class Daemon:
    """Asks for everything that one build offers."""

    def __init__(self, session: Channel, solve: v1.SolveRequest, *, realm: str, blob: str) -> None:
        self._session = session
        self._solve = solve
        self._realm = realm
        self._blob = blob

    def questions(self) -> Iterator[tuple[str, Ask]]:
        """By the names of what is slow about them."""
        attrs = self._solve.frontend_attrs
        yield "health", self._asks("grpc.health.v1.Health/Check", HealthCheckRequest())

        secrets = "moby.buildkit.secrets.v1.Secrets/GetSecret"
        yield "secret: function", self._asks(secrets, GetSecretRequest(id="function"))
        yield "secret: file", self._asks(secrets, GetSecretRequest(id="file"))

        auth = "moby.filesync.v1.Auth"
        fetch = FetchTokenRequest("x", PASSWORD_HOST, self._realm, "service", ["scope"])
        yield "auth: helper", self._asks(f"{auth}/Credentials", CredentialsRequest(HELPER_HOST))
        yield "auth: function", self._asks(f"{auth}/Credentials", CredentialsRequest(FUNCTION_HOST))
        yield "auth: key", self._asks(f"{auth}/GetTokenAuthority", GetTokenAuthorityRequest(PASSWORD_HOST, bytes(32)))
        yield "auth: silent token server", self._asks(f"{auth}/FetchToken", fetch)

        ssh = "moby.sshforward.v1.SSH"
        for name, request in (("asked", SIGN), ("silent", LIST)):
            message = BytesMessage(framed(request))
            yield f"ssh: {name}", self._asks(f"{ssh}/ForwardAgent", message, (AGENT_ID, name))
        yield "ssh: check", self._asks(f"{ssh}/CheckAgent", CheckAgentRequest(id="silent"))

        check = "moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy"
        source = frontend.ResolveSourceMetaResponse(source=SourceOp("docker-image://a", {}))
        yield "policy", self._asks(check, CheckPolicyRequest(source=source))

        exporter = "moby.exporter.v1.Exporter"
        yield "exporter: find", self._asks(f"{exporter}/FindExporters", FindExportersRequest())
        yield "exporter: finalize", self._asks(f"{exporter}/FinalizeExport", FinalizeExportRequest())

        yield "upload", self._asks("moby.upload.v1.Upload/Pull", None, ("urlpath", attrs["context"]))
        yield "filesync", self._takes_a_tree

        content = "containerd.services.content.v1.Content"
        key = attrs["context:base"].removeprefix("oci-layout://").partition("@")[0].partition(":")[0]
        assert self._solve.cache is not None
        layout, cache = f"oci:{key}", f"local:{self._solve.cache.exports[0].attrs['dest']}"
        read = ReadContentRequest(digest=self._blob)
        write = WriteContentRequest(action=WriteAction.COMMIT, ref="r", data=bytes(1 << 20))
        yield "content: layout", self._asks(f"{content}/Read", read, (STORE_ID, layout))
        yield "content: cache", self._asks(f"{content}/Write", write, (STORE_ID, cache))

        send = "moby.filesync.v1.FileSend/DiffCopy"
        yield "filesend", self._asks(send, BytesMessage(bytes(100)), (EXPORTER_ID, "0"))

    def _asks(self, path: str, message: Message | None, *metadata: tuple[str, str]) -> Ask:
        async def ask() -> None:
            async with self._session.call(f"/{path}", request=BYTES, response=BYTES, metadata=metadata) as call:
                if message is not None:
                    await call.send(bytes(message))
                call.end()
                while await call.recv() is not None:
                    pass

        return ask

    async def _takes_a_tree(self) -> None:
        """Its list, the content of all files, and the end."""
        name = self._solve.frontend_attrs["context:dir"].removeprefix("local:")
        path, metadata = "/moby.filesync.v1.FileSync/DiffCopy", [("dir-name", name)]
        async with self._session.call(path, request=PACKETS, response=PACKETS, metadata=metadata) as call:
            listed = 0
            while (packet := await call.recv()) is not None and packet.stat is not None:
                listed += 1
            for number in range(listed):
                await call.send(Packet(PacketPacketType.PACKET_REQ, id=number))
            ended = 0
            while ended < listed and (packet := await call.recv()) is not None:
                ended += not packet.data
            await call.send(Packet(PacketPacketType.PACKET_FIN))


class SlowWriter:
    """A file of the caller's that takes its time."""

    def write(self, data: bytes) -> int:
        time.sleep(PAUSE)
        return len(data)


class SlowSource:
    """Like a pipe in which an archive comes piece by piece."""

    def __init__(self) -> None:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("Dockerfile"))
        self._rest = file.getvalue()

    def read(self, _size: int) -> bytes:
        time.sleep(PAUSE)
        piece, self._rest = self._rest[:5120], self._rest[5120:]
        return piece


def lay_out(folder: Path) -> str:
    """Everything on disk that the build is given; returns the digest of a large blob of the layout."""
    (folder / "dir").mkdir()
    for number in range(3):
        (folder / f"dir/{number}").write_bytes(bytes(100_000))
    (folder / "token").write_text("hunter2")
    blobs = folder / "layout/blobs/sha256"
    blobs.mkdir(parents=True)
    digests = []
    for content in (b'{"schemaVersion": 2, "manifests": []}', os.urandom(64 << 20)):
        digests.append(hashlib.sha256(content).hexdigest())
        (blobs / digests[-1]).write_bytes(content)
    kind = "application/vnd.oci.image.index.v1+json"
    add_manifest(folder / "layout", {"mediaType": kind, "digest": f"sha256:{digests[0]}", "size": 37})
    helper = folder / "docker-credential-slow"
    helper.write_text(f'#!/bin/sh\nsleep {PAUSE}\necho \'{{"Username": "alice", "Secret": "hunter2"}}\'\n')
    helper.chmod(0o755)
    (folder / "config.json").write_text('{"credsStore": "slow"}')
    return f"sha256:{digests[1]}"


async def answer_as_agent(reader: StreamReader, writer: StreamWriter) -> None:
    """An ssh agent of one key that makes no signatures."""
    try:
        while size := int.from_bytes(await reader.read(4)):
            asked = await reader.readexactly(size)
            writer.write(framed(identities_answer([KEY]) if asked == LIST else b"\x05"))
    finally:
        writer.transport.abort()


async def test_no_service_holds_up_the_loop(tmp_path: Path) -> None:
    """Everything that one build may offer, from its start on; compared with the same loop when nothing is asked."""
    blob = lay_out(tmp_path)
    docker = bk.DockerConfig({"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    lateness = Lateness()
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(tmp_path / "silent"))
    web = socket.create_server(("127.0.0.1", 0))
    realm = f"http://127.0.0.1:{web.getsockname()[1]}/token"
    failures: dict[str, str] = {}

    async def solve(call: IncomingCall[bytes, bytes]) -> None:
        request = v1.SolveRequest.parse(await call.recv() or b"")
        if request.internal:  # the question about capabilities
            await anyio.sleep_forever()
        for name, ask in Daemon(await buildkit.session(), request, realm=realm, blob=blob).questions():
            lateness.note(name)
            with anyio.move_on_after(3 * PAUSE):  # what hangs is given up, as by a daemon
                try:
                    await ask()
                except bk.RpcError as error:
                    failures[name] = str(error)
        done.set()
        await anyio.sleep_forever()

    done = anyio.Event()
    scripts = {"Control/Solve": solve, "Control/Status": never, "LLBBridge/Ping": answering(bytes(CAPABILITIES))}
    with silent, web:
        silent.listen()
        async with (
            await asyncio.start_unix_server(answer_as_agent, tmp_path / "agent"),
            fake_buildkit(scripts) as buildkit,
            bk.connect(buildkit.address) as client,
            anyio.create_task_group() as tasks,
        ):
            lateness.note("nothing")
            tasks.start_soon(lateness.watch)
            await anyio.sleep(PAUSE)
            lateness.note("start")
            with slow_disk():
                async with client.start(
                    SlowSource(),
                    build_contexts={"dir": str(tmp_path / "dir"), "base": f"oci-layout://{tmp_path}/layout"},
                    cache_to=[f"type=local,dest={tmp_path}/cache"],
                    outputs=[bk.output.tar(SlowWriter())],
                    secrets={
                        "function": bk.secret.call(slowly(b"hunter2")),
                        "file": bk.secret.file(tmp_path / "token"),
                    },
                    ssh={
                        "asked": bk.ssh.agent(tmp_path / "agent", confirm=slowly(True)),
                        "silent": bk.ssh.agent(tmp_path / "silent"),
                    },
                    credentials={
                        FUNCTION_HOST: slowly(("alice", "hunter2")),
                        HELPER_HOST: docker.find,
                        PASSWORD_HOST: ("alice", "hunter2"),
                    },
                    source_policy=slowly(policy.allow()),
                    session_exporter=bk.SessionExporter(slowly([]), slowly(None)),
                ):
                    await done.wait()
            tasks.cancel_scope.cancel()
    assert failures == {}
    assert lateness.late() == {}
