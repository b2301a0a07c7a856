"""How a command ends that failed."""

from __future__ import annotations

import pytest

from buildkit_session.cli.failure import excerpts, exit_code
from buildkit_session.errors import BuildError, InputError, RpcError, SessionError
from buildkit_session.source import Position, SourceExcerpt, SourceFile, SourceRange


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BuildError("no"), 1),
        (BuildError("no", code=2, exit_code=7), 1),
        (BuildError("no", code=1), 130),
        (BuildError("no", code=8), 102),
        (BuildError("no", code=13), 100),
        (RpcError(13, "no"), 100),
        (InputError("no"), 1),
    ],
)
def test_exit_codes_are_those_of_buildx(error: SessionError, code: int) -> None:
    """By gRPC status; the exit code of a step is not that of the command."""
    assert exit_code(error) == code


def test_excerpts_follow_each_other() -> None:
    """The cause comes first."""
    here = (SourceRange(Position(1), Position(1)),)
    sources = [SourceExcerpt(SourceFile(name, b"RUN"), here) for name in ("inner", "outer")]
    text = excerpts(BuildError("no", sources=sources))
    assert [line for line in text.splitlines() if ":" in line] == ["inner:1", "outer:1"]
    assert excerpts(InputError("no")) == ""
