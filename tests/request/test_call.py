"""Questions to the frontend."""

from __future__ import annotations

import pytest

from buildkit_session.engine.subrequest import Call
from buildkit_session.errors import InputError
from buildkit_session.request.call import parse, read_call


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("build", None),
        ("check", Call("lint")),
        ("help", Call("subrequests.describe")),
        ("outline,format=json", Call("outline", "json")),
        ("format=json,targets,ignorestatus=true", Call("targets", "json", ignore_status=True)),
        ("subrequests.describe", Call("subrequests.describe")),
    ],
)
def test_questions(text: str, expected: Call | None) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("check,outline", "invalid print value: check,outline"),
        ("check,color=1", "invalid print field: color=1"),
        ("check,ignorestatus=maybe", "invalid ignorestatus print value: maybe"),
        ("format=json", "names no method"),
        (",", "names no method"),
        ('"', "misplaced quote in call"),
    ],
)
def test_questions_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)


def test_objects_are_as_good_as_texts() -> None:
    assert read_call(Call("lint")) == read_call("check")
    with pytest.raises(InputError, match="call must be a text such as check, not an int"):
        read_call(3)
