"""Words that errors share."""

from __future__ import annotations

import pytest

from buildkit_session.wording import a_type, did_you_mean


@pytest.mark.parametrize(
    ("value", "named"), [(1, "an int"), ("", "a str"), (None, "a NoneType"), (object(), "an object")]
)
def test_types_have_an_article(value: object, named: str) -> None:
    assert a_type(value) == named


def test_the_nearest_name_is_meant() -> None:
    assert did_you_mean("tag", ["target", "tags"]) == "; did you mean tags?"
    assert did_you_mean("no-cahce", ["no-cache"], prefix="--") == "; did you mean --no-cache?"
    assert did_you_mean("nonsense", ["tags"]) == ""
