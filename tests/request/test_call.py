"""Questions to the frontend."""

from __future__ import annotations

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request.call import CallRequest, parse, read_call


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("build", None),
        ("check", CallRequest("lint")),
        ("outline,format=json", CallRequest("outline", "json")),
        ("format=json,targets,ignorestatus=true", CallRequest("targets", "json", ignore_status=True)),
        ("subrequests.describe", CallRequest("subrequests.describe")),
    ],
)
def test_questions(text: str, expected: CallRequest | None) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("check,outline", "invalid print value: check,outline"),
        ("check,color=1", "invalid print field: color=1"),
        ("check,ignorestatus=maybe", "invalid ignorestatus print value: maybe"),
        ("format=json", "names no method"),
    ],
)
def test_questions_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)


def test_a_question_joins_what_the_frontend_must_be_able_to_do() -> None:
    subrequests = "moby.buildkit.frontend.subrequests+forward"
    assert CallRequest("lint").attributes({"a": "b"}) == {
        "a": "b",
        "frontend.caps": subrequests,
        "requestid": "frontend.lint",
    }
    assert CallRequest("lint").attributes({"frontend.caps": "x"})["frontend.caps"] == f"x,{subrequests}"


def test_objects_are_as_good_as_texts() -> None:
    assert read_call(CallRequest("lint")) == read_call("check")
    with pytest.raises(InputError, match="call must be a text such as check, not a int"):
        read_call(3)
