"""BuildKit's typed errors, as recorded from a daemon and as no daemon should send them."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.engine.error_details import (
    MAX_DENIALS,
    MAX_JSON,
    CapabilityMissing,
    ErrorDetail,
    FailedFrontend,
    FailedSolve,
    FailedVertex,
    ProcessExit,
    RequestUnknown,
    SourceDenied,
    error_details,
)
from buildkit_session.engine.source_json import MAX_RANGES
from buildkit_session.grpc.details import Detail, decode_trailer
from buildkit_session.messages.google.protobuf import Any
from buildkit_session.messages.google.rpc import Status
from buildkit_session.source import Position, SourceExcerpt, SourceFile, SourceRange

# Trailers of Control.Solve, sent by Docker Engine 28.5.2; the stack traces are emptied.
RECORDED: dict[str, str] = json.loads(Path(__file__, "../recordings/errors.json").resolve().read_text())

PREFIX = "github.com/moby/buildkit/"
SOURCE = "errdefs.Source+json"
KINDS = [
    SOURCE,
    "errdefs.Vertex+json",
    "errdefs.Solve+json",
    "errdefs.Frontend+json",
    "errdefs.FrontendCap+json",
    "errdefs.Subrequest+json",
    "gatewayapi.ExitMessage+json",
    "policysession.DecisionResponse+json",
]
NAMES = ["info", "data", "ranges", "start", "line", "digest", "inputIDs", "op", "file", "index", "name", "Code"]
NAMES += ["denyMessages", "message"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


def recorded(name: str) -> tuple[ErrorDetail, ...]:
    return error_details(decode_trailer(RECORDED[name].encode()))


def detail(kind: str, value: object) -> ErrorDetail:
    """What one detail becomes; ``value`` is JSON, or already bytes."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    (read,) = error_details(bytes(Status(details=[Any(type_url=PREFIX + kind, value=data)])))
    return read


def test_a_failed_command() -> None:
    """Place, step and exit code; traces of the daemon are left out."""
    text = "FROM scratch\nCOPY busybox /bin/sh\nRUN echo one; \\\n  echo two; \\\n  exit 7\nCOPY Dockerfile /\n"
    assert recorded("failing-run") == (
        SourceExcerpt(
            SourceFile("Dockerfile", text.encode(), "Dockerfile"),
            tuple(SourceRange(Position(line), Position(line)) for line in (3, 4, 5)),
        ),
        FailedVertex("sha256:f187d818af4c8f13e21be233396b51ff8d26242403279301a4a17320e833fe5c"),
        ProcessExit(7),
    )


def test_a_dockerfile_that_cannot_be_parsed() -> None:
    solve, frontend, source = recorded("bad-instruction")
    assert (solve, frontend) == (FailedSolve(), FailedFrontend("dockerfile.v0"))
    assert isinstance(source, SourceExcerpt)
    assert source.ranges == (SourceRange(Position(2), Position(2)),)


def test_an_unknown_request() -> None:
    assert recorded("call-unknown")[-1] == RequestUnknown("frontend.nonsense")


def test_a_missing_capability() -> None:
    assert detail("errdefs.FrontendCap+json", {"name": "x"}) == CapabilityMissing("x")


def test_a_failed_operation() -> None:
    """64-bit numbers come as text."""
    value = {"inputIDs": ["a"], "mountIDs": ["b", "c"], "op": {"exec": {}}, "file": {"index": "1"}, "description": {}}
    solve = FailedSolve(("a",), ("b", "c"), {"exec": {}}, file_action=1)
    assert detail("errdefs.Solve+json", value) == solve
    assert detail("errdefs.Solve+json", {"cache": {}}) == FailedSolve(cache_input=0)


def test_a_denied_source() -> None:
    said: list[object] = [{"message": "no"}, {}, {"message": "x" * 10_000}, None]
    found = detail("policysession.DecisionResponse+json", {"action": 1, "denyMessages": said * 10})
    assert isinstance(found, SourceDenied)
    assert found.messages[:2] == ("no", "")
    assert len(found.messages) == MAX_DENIALS
    assert max(map(len, found.messages)) < 5000


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param("errdefs.Future+json", {"name": "x"}, id="unknown-type"),
        pytest.param(SOURCE, b"{", id="no-json"),
        pytest.param(SOURCE, b"\xff", id="no-utf8"),
        pytest.param(SOURCE, [], id="no-object"),
        pytest.param(SOURCE, {"info": {"data": "%"}}, id="no-base64"),
        pytest.param(SOURCE, {"info": {"data": "ü"}}, id="no-ascii"),
        pytest.param(SOURCE, {"info": {"data": ""}, "ranges": [{"start": {"line": 2**40}}]}, id="line-of-40-bits"),
        pytest.param(SOURCE, {"info": {"data": ""}, "ranges": [{"start": {"line": True}}]}, id="line-that-is-a-truth"),
        pytest.param(SOURCE, b"[" * 100_000, id="nested"),
        pytest.param("gatewayapi.ExitMessage+json", b'{"Code":' + b"9" * 10_000 + b"}", id="endless-number"),
        pytest.param("errdefs.Vertex+json", b'{"digest":"' + b"x" * MAX_JSON + b'"}', id="too-long"),
    ],
)
def test_what_is_not_understood_is_kept(kind: str, value: object) -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    assert detail(kind, data) == Detail(PREFIX + kind, data)


@given(st.sampled_from(KINDS), JSON)
def test_any_json_is_a_detail(kind: str, value: object) -> None:
    """No shape raises."""
    detail(kind, value)


def test_a_place_without_a_file_shows_nothing() -> None:
    assert detail(SOURCE, {"ranges": [{"start": {"line": 1}}]}) == SourceExcerpt(SourceFile(""))


def test_ranges_are_bounded() -> None:
    source = detail(SOURCE, {"info": {"data": b64encode(b"x").decode()}, "ranges": [{}] * (MAX_RANGES + 1)})
    assert isinstance(source, SourceExcerpt)
    assert len(source.ranges) == MAX_RANGES
