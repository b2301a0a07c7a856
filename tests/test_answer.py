"""The answer to a question, for programs."""

from __future__ import annotations

import json

import pytest

from buildkit_session.answer import call_answer
from buildkit_session.engine.subrequest import Call
from buildkit_session.errors import EngineError

WARNING = {"ruleName": "Rule", "detail": "why", "location": {"ranges": [{"start": {"line": 1}, "end": {"line": 1}}]}}
LINT = {"warnings": [WARNING], "sources": [{"filename": "Dockerfile", "data": "Rk9P"}]}


def test_a_check() -> None:
    said = {"result.json": json.dumps(LINT).encode(), "version": b"1.0.0", "result.statuscode": b"1"}
    answer = call_answer(Call("lint"), said, filename="sub/Dockerfile")
    assert answer.value == LINT
    assert answer.metadata["version"] == "1.0.0"
    assert answer.exit_code == 1
    (finding,) = answer.report.findings
    assert finding.rule == "Rule"
    assert finding.place is not None
    assert finding.place.file.filename == "sub/Dockerfile"


def test_another_question_has_no_findings() -> None:
    assert call_answer(Call("x"), {"result.json": b"{}"}, filename="").report.findings == ()


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000])
def test_no_json(text: bytes) -> None:
    answer = call_answer(Call("x"), {"result.json": text}, filename="")
    with pytest.raises(EngineError, match="the frontend's answer to x holds no JSON"):
        _ = answer.value


def test_a_check_of_another_form() -> None:
    answer = call_answer(Call("lint", format="json"), {"result.json": b"{}"}, filename="")
    changed = type(answer)(answer.call, "", "", 0, {"result.json": "[]"}, "")
    with pytest.raises(EngineError, match="the check cannot be read"):
        _ = changed.report
