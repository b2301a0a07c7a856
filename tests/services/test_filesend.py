"""The seam: one method, the type of its messages chosen for every stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from calls import ScriptedCall
from tricky_cases import tricky

from buildkit_session.errors import RpcError
from buildkit_session.grpc.metadata import Metadata
from buildkit_session.messages.fsutil.types import Packet
from buildkit_session.messages.moby.filesync.v1 import BytesMessage
from buildkit_session.services.filesend import EXPORTER_ID, FileSend, Target
from buildkit_session.services.targets import DirectoryTarget, FileTarget

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.router import Codecs

ID = EXPORTER_ID.encode()


def service(tmp_path: Path) -> FileSend:
    """A tar as exporter 0, a directory as exporter 1."""
    return FileSend({0: FileTarget(tmp_path / "out.tar"), 1: DirectoryTarget(tmp_path / "out")})


def message_types(codecs: Codecs) -> tuple[type, type]:
    return type(codecs.request.decode(b"")), type(codecs.response.decode(b""))


@tricky(4)
def test_there_is_one_route(tmp_path: Path) -> None:
    (route,) = service(tmp_path).routes()
    assert route.path == "/moby.filesync.v1.FileSend/DiffCopy"
    assert route.ends_itself


@tricky(31)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([(ID, b"0")], BytesMessage),
        ([(ID, b"1")], Packet),
        ([(ID, b"+1")], Packet),
        ([(ID, b"01")], Packet),
        ([(ID, b"1"), (ID, b"0")], Packet),
        ([], BytesMessage),
        ([(ID, b"")], BytesMessage),
        ([(ID, b"one")], BytesMessage),
        ([(ID, b" 1")], BytesMessage),
        ([(ID, b"1_0")], BytesMessage),
        ([(ID, "\u0661".encode())], BytesMessage),
        ([(b"containerd-lease", b"1")], BytesMessage),
    ],
    ids=repr,
)
def test_the_exporter_chooses_the_type(tmp_path: Path, fields: list[tuple[bytes, bytes]], message: type) -> None:
    """DR-30: without a number, as from old daemons, it is exporter 0."""
    assert message_types(service(tmp_path).select(Metadata(fields))) == (message, message)


@pytest.mark.parametrize("number", [b"2", b"-1", b"999999999999999999"])
def test_an_unknown_exporter_is_refused(tmp_path: Path, number: bytes) -> None:
    """DR-30."""
    with pytest.raises(RpcError) as caught:
        service(tmp_path).select(Metadata([(ID, number)]))
    assert caught.value.message == f"exporter {number.decode()} not found"


def test_without_a_target_nothing_is_received(tmp_path: Path) -> None:
    """Also exporter 0 is unknown to a build without files, or whose file is of another exporter."""
    with pytest.raises(RpcError, match="exporter 0 not found"):
        FileSend({1: FileTarget(tmp_path / "out.tar")}).select(Metadata())


def test_the_stream_goes_to_its_target(tmp_path: Path) -> None:
    call = ScriptedCall([BytesMessage(data=b"tar")], metadata=[(ID, b"0")])
    (route,) = service(tmp_path).routes()

    async def main() -> None:
        await route.handler(cast("IncomingCall[Any, Any]", call))

    anyio.run(main)
    assert (tmp_path / "out.tar").read_bytes() == b"tar"


def test_targets_are_interchangeable(tmp_path: Path) -> None:
    """Both kinds keep to the interface."""
    targets: list[Target] = [FileTarget(tmp_path / "out.tar"), DirectoryTarget(tmp_path / "out")]
    assert len({id(target.codecs) for target in targets}) == 2
