"""The error of a build, from the status of its Solve and what was seen of its progress."""

from __future__ import annotations

import json

import pytest

from buildkit_session.engine.build_log import BuildLog
from buildkit_session.engine.events import Vertex
from buildkit_session.engine.solve_error import MAX_SOURCES, build_error, exit_code_in
from buildkit_session.errors import BuildError, RpcError, UnsupportedError
from buildkit_session.messages.google.protobuf import Any
from buildkit_session.messages.google.rpc import Status

PROCESS = 'process "/bin/sh -c false" did not complete successfully: exit code: 1'


def details(**values: object) -> bytes:
    """A serialized status; ``Vertex={...}`` is a detail of that type."""
    package = {"ExitMessage": "gatewayapi"}
    return bytes(
        Status(
            code=2,
            details=[
                Any(
                    type_url=f"github.com/moby/buildkit/{package.get(name, 'errdefs')}.{name}+json",
                    value=json.dumps(value).encode(),
                )
                for name, value in values.items()
            ],
        )
    )


def failed(error: RpcError, *vertices: Vertex) -> BuildError:
    log = BuildLog()
    log.feed(vertices)
    made = build_error(error, log)
    assert isinstance(made, BuildError)
    return made


def step(digest: str) -> Vertex:
    return Vertex(digest, f"RUN {digest}", started=1, completed=2, error=PROCESS)


def test_everything_the_daemon_says() -> None:
    source = {"info": {"filename": "Dockerfile", "data": "UlVO"}, "ranges": [{"start": {"line": 1}}]}
    status = details(Source=source, Vertex={"digest": "b"}, ExitMessage={"Code": 7})

    error = failed(RpcError(2, PROCESS, details=status), step("a"), step("b"), step("c"))

    assert (error.message, error.code, error.exit_code, error.vertex) == (PROCESS, 2, 7, "b")
    assert error.step is not None
    assert error.step.digest == "b"  # all have the same text: the digest alone tells which
    assert [source.file.data for source in error.sources] == [b"RUN"]


def test_a_step_without_details() -> None:
    """The text tells, as before; 20.10 sends no more."""
    error = failed(RpcError(2, "executor failed running [sh]: exit code: 3"), step("a"))
    assert error.step is not None
    assert (error.step.digest, error.vertex, error.exit_code, error.sources) == ("a", "a", 3, ())


def test_a_step_whose_progress_was_lost() -> None:
    error = failed(RpcError(2, "no", details=details(Vertex={"digest": "b"})))
    assert (error.step, error.vertex) == (None, "b")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (2, "why"),
        (1, "Canceled: why"),
        (5, "NotFound: why"),
        (8, "ResourceExhausted: why"),
        (13, "Internal: why"),
        (99, "Code(99): why"),
    ],
)
def test_codes_are_named_as_in_go(code: int, text: str) -> None:
    error = failed(RpcError(code, "why"))
    assert (str(error), error.code) == (text, code)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (PROCESS, 1),
        ("executor failed running [/bin/sh -c exit 7]: exit code: 7", 7),
        ('process "x: exit code: 3" did not complete successfully: signal: killed', None),
        ("my frontend says: exit code: 3", None),
        (PROCESS + "0" * 20, None),
        ("", None),
    ],
)
def test_exit_code_in_a_text(message: str, code: int | None) -> None:
    assert exit_code_in(message) == code


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(
            RpcError(12, "unsupported", details=details(FrontendCap={"name": "moby.buildkit.frontend.contexts"})),
            "a named build context needs Dockerfile frontend 1.4 or newer; name one by '# syntax=docker/dockerfile:1'",
            id="known-capability",
        ),
        pytest.param(
            RpcError(12, "unsupported", details=details(FrontendCap={"name": "future\x1b"})),
            r"future\x1b needs a frontend with this capability",
            id="unknown-capability",
        ),
        pytest.param(
            RpcError(2, "failed to solve: unsupported frontend capability moby.buildkit.frontend.contexts"),
            "a named build context needs Dockerfile frontend 1.4 or newer; name one by '# syntax=docker/dockerfile:1'",
            id="capability-by-text",
        ),
        pytest.param(
            RpcError(2, "unsupported", details=details(Subrequest={"name": "frontend.x"})),
            "the frontend does not know the request frontend.x; the call subrequests.describe lists",
            id="request",
        ),
        pytest.param(RpcError(12, "unknown service moby.X"), "the daemon is too old", id="service"),
    ],
)
def test_what_is_missing(error: RpcError, text: str) -> None:
    made = build_error(error, BuildLog())
    assert isinstance(made, UnsupportedError)
    assert str(made).startswith(text)


def test_unimplemented_by_others_is_a_failed_build() -> None:
    """A registry, or this side's own session, may say so too."""
    assert failed(RpcError(12, "method not offered by the client")).code == 12


def test_sources_are_bounded() -> None:
    source = Any(type_url="github.com/moby/buildkit/errdefs.Source+json", value=b"{}")
    error = failed(RpcError(2, "no", details=bytes(Status(details=[source] * 100))))
    assert len(error.sources) == MAX_SOURCES
