"""The table of served methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tricky_cases import tricky

from buildkit_session.grpc.codec import BYTES, MessageCodec
from buildkit_session.grpc.metadata import Metadata
from buildkit_session.grpc.router import Codecs, Route, Router, messages
from buildkit_session.messages.moby.filesync.v1 import BytesMessage

if TYPE_CHECKING:
    from buildkit_session.grpc.incoming_call import IncomingCall


async def handler(_call: IncomingCall[Any, Any]) -> None:
    """Answer nothing."""


def route(path: str) -> Route:
    return Route(path, handler, lambda _metadata: Codecs(BYTES, BYTES))


@tricky(4)
def test_find_without_regard_to_case() -> None:
    sync = route("/moby.filesync.v1.FileSync/DiffCopy")

    assert Router([sync]).find("/moby.filesync.v1.filesync/diffcopy") is sync


@pytest.mark.parametrize("path", ["", "a.B/C", "//a.B/C", "/a.B/C/", "/a.B", "/a.B/c?x=1", "/a.B/%43"])
def test_odd_paths(path: str) -> None:
    """GR-02: nothing but the path itself finds the route."""
    assert Router([route("/a.B/C")]).find(path) is None


def test_methods_in_order() -> None:
    """What is advertised is what was added, as it was spelled."""
    assert Router([route("/b.B/B"), route("/a.A/A")]).methods == ("/b.B/B", "/a.A/A")


def test_one_route_a_method() -> None:
    router = Router([route("/a.B/C")])

    with pytest.raises(ValueError, match="served already"):
        router.add(route("/A.b/c"))


def test_messages() -> None:
    codecs = messages(BytesMessage, BytesMessage)(Metadata())

    assert isinstance(codecs.request, MessageCodec)
    assert codecs.response.encode(BytesMessage(data=b"x")) == b"\x0a\x01x"
