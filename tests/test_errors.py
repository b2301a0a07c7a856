"""What errors say, and what a traceback shows of them."""

from __future__ import annotations

import traceback

import pytest

from buildkit_session.errors import NOTED_LINES, BuildError, FailedStep, UnsupportedError
from buildkit_session.source import Position, SourceExcerpt, SourceFile, SourceRange


def place(text: str, *lines: int, filename: str = "Dockerfile") -> SourceExcerpt:
    ranges = tuple(SourceRange(Position(line), Position(line)) for line in lines)
    return SourceExcerpt(SourceFile(filename, text.encode()), ranges)


def shown(error: BuildError) -> str:
    return "".join(traceback.format_exception(error))


def test_a_traceback_shows_the_place() -> None:
    """The innermost one alone, without what could drive the terminal."""
    error = BuildError("failed", sources=[place("RUN \x1b[2J\nRUN b", 1), place("outer", 1, filename="outer")])
    assert shown(error).endswith("BuildError: failed\nat Dockerfile:1\n     1 | >>> RUN \\x1b[2J\n     2 |     RUN b\n")


def test_a_traceback_stays_short() -> None:
    many = range(1, 1000)
    step = FailedStep("RUN", "", "", tuple(map(str, many)))
    error = BuildError("failed", step=step, sources=[place("line\n" * 1000, *many)])
    assert shown(error).count("\n") == 1 + 2 * (1 + NOTED_LINES)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("secret a: not found", "offer it with secrets= (--secret id=a)"),
        ('no SSH key "" forwarded from the client', "offer it with ssh= (--ssh default)"),
        ('no SSH key "git" forwarded from the client', "offer it with ssh= (--ssh git)"),
        ("NotFound: no ssh agent is forwarded as 'git'", "offer it with ssh= (--ssh git)"),
        (
            "failed to push reg.example:5000/a/b:1: unexpected status from HEAD request to http://x/: 401 Unauthorized",
            "log in to reg.example:5000 by credentials= of connect() or build(); for the command line by ",
        ),
        (
            "pulling from host reg.example failed with status code [manifests latest]: 401 Unauthorized",
            "log in to reg.example by credentials=",
        ),
        ("failed to fetch oauth token: unexpected status 401", "the registry does not take these credentials: "),
        ("failed to push reg.example/a: connection refused", ""),
        ("failed to push reg.example/a: unexpected status: 404 Not Found", ""),
    ],
)
def test_what_to_do_about_it(message: str, advice: str) -> None:
    assert BuildError(message).advice.startswith(advice)
    assert bool(BuildError(message).advice) == bool(advice)


def test_a_place_that_does_not_exist_is_not_noted() -> None:
    assert shown(BuildError("failed", sources=[place("RUN", 7)])).endswith("BuildError: failed\n")


def test_the_vertex_is_that_of_the_step() -> None:
    step = FailedStep("RUN", "sha256:1", "no", ())
    assert BuildError("failed", step=step).vertex == "sha256:1"
    assert BuildError("failed", step=step, vertex="sha256:2").vertex == "sha256:2"


@pytest.mark.parametrize(
    ("found", "address", "text"),
    [
        ("20.10", "unix:///x", "history needs Docker 23.0; found 20.10 at unix:///x"),
        ("20.10", "", "history needs Docker 23.0; found 20.10"),
        ("", "unix:///x", "history needs Docker 23.0"),
    ],
)
def test_what_cannot_be_done(found: str, address: str, text: str) -> None:
    error = UnsupportedError(feature="history", needs="Docker 23.0", found=found, address=address)
    assert (str(error), error.feature, error.needs, error.found) == (text, "history", "Docker 23.0", found)


def test_a_text_of_its_own() -> None:
    assert str(UnsupportedError("use another", feature="history", needs="Docker 23.0")) == "use another"


def test_a_plain_message_needs_no_more() -> None:
    error = UnsupportedError("use another")
    assert (str(error), error.feature, error.needs, error.found) == ("use another", "", "", "")
