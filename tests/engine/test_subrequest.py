"""Calls of a frontend, and what is printed of the answers. That buildx prints the same is shown with a real daemon."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.engine.subrequest import Answer, Call, answer, dockerfile_name
from buildkit_session.errors import EngineError

NAMES = ["warnings", "sources", "buildError", "location", "sourceIndex", "ranges", "targets", "name", "args", "data"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


def replied(call: Call, value: object, **more: str) -> Answer:
    metadata = {"result.json": json.dumps(value), "version": "1.0.0", **more}
    return answer(call, {key.replace("_", "."): text.encode() for key, text in metadata.items()})


def source(name: str, text: str = "one\ntwo") -> dict[str, object]:
    return {"filename": name, "data": b64encode(text.encode()).decode()}


def warning(rule: str, index: int = 0, *lines: int) -> dict[str, object]:
    ranges = [{"start": {"line": line}, "end": {"line": line}} for line in lines]
    return {"ruleName": rule, "detail": "why", "location": {"sourceIndex": index, "ranges": ranges}}


def test_a_question_joins_what_the_frontend_must_be_able_to_do() -> None:
    subrequests = "moby.buildkit.frontend.subrequests+forward"
    assert Call("lint").attributes({"a": "b"}) == {
        "a": "b",
        "frontend.caps": subrequests,
        "requestid": "frontend.lint",
    }
    assert Call("lint").attributes({"frontend.caps": "x"})["frontend.caps"] == f"x,{subrequests}"


@pytest.mark.parametrize(
    ("context", "file", "name"),
    [
        (".", None, "Dockerfile"),
        ("sub/", None, "sub/Dockerfile"),
        ("..", None, "../Dockerfile"),
        ("sub", "./other", "./other"),
        ("sub", "-", "stdin"),
        ("https://host/a.git", None, "https:/host/a.git/Dockerfile"),
    ],
)
def test_the_name_of_the_dockerfile(context: str, file: str | None, name: str) -> None:
    assert dockerfile_name(context, file) == name


def test_warnings_are_ordered() -> None:
    """Without a file first, then by file and line."""
    value = {
        "sources": [source("b"), source("a")],
        "warnings": [
            warning("B2", 0, 2),
            warning("B1", 0, 1),
            warning("A-2", 1),
            warning("A-1", 1),
            warning("none-2", -1),
            {"ruleName": "none-1"},
        ],
    }
    text = replied(Call("lint"), value).text
    rules = [line.removeprefix("WARNING: ") for line in text.splitlines() if line.startswith("WARNING: ")]
    assert rules == ["none-1", "none-2", "A-1", "A-2", "B1", "B2"]


def test_a_warning_counts() -> None:
    """For the exit code too, unless it is to be ignored."""
    value = {"sources": [source("Dockerfile")], "warnings": [warning("Rule", 0, 1)]}
    found = replied(Call("lint"), value, result_statuscode="1")
    assert found.text.startswith("Check complete, 1 warning has been found!\n\nWARNING: Rule\nwhy\nDockerfile:1\n---")
    assert found.exit_code == 1
    assert replied(Call("lint", ignore_status=True), value, result_statuscode="1").exit_code == 0


def test_the_file_is_named_as_the_user_did() -> None:
    value = {"sources": [source("Dockerfile")], "warnings": [warning("Rule", 0, 1)]}
    found = answer(Call("lint"), {"result.json": json.dumps(value).encode()}, filename="sub/Dockerfile")
    assert "\nsub/Dockerfile:1\n" in found.text


def test_a_newer_answer_is_shown_as_its_own_text() -> None:
    newer = {"result_txt": "new\n", "version": "1.1.0"}
    assert replied(Call("targets"), [], **newer).text == "new\n"
    assert replied(Call("targets"), {}, result_txt="old\n", version="1.0").text == "TARGET DESCRIPTION\n"


def test_other_calls_are_shown_as_they_are() -> None:
    call = Call("custom")
    assert replied(call, {}, result_txt="text", result_statuscode="3") == Answer("text", exit_code=3)
    assert replied(Call("custom", "json"), {}, result_txt="text").text == "{}\n"
    assert answer(call, {"b": b"2", "a": b"1"}).text == "a: 1\nb: 2\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lint", []),
        ("lint", {"warnings": [warning("Rule", 7)]}),
        ("lint", {"sources": [{"data": "%"}]}),
        ("targets", {"targets": [1]}),
        ("outline", {"name": 1}),
        ("subrequests.describe", {}),
    ],
)
def test_an_answer_of_another_shape(name: str, value: object) -> None:
    with pytest.raises(EngineError, match="add format=json"):
        replied(Call(name), value)


def test_an_answer_that_would_fill_the_memory() -> None:
    """Few bytes can name a long line many times."""
    value = {"sources": [source("f", "x" * 1_000_000)], "warnings": [warning("Rule", 0, 1)] * 1000}
    with pytest.raises(EngineError):
        replied(Call("lint"), value)


@given(st.sampled_from(["lint", "targets", "outline", "subrequests.describe", "other"]), JSON)
def test_any_answer_is_text_or_refused(name: str, value: object) -> None:
    with contextlib.suppress(EngineError):
        assert isinstance(replied(Call(name), value).text, str)
