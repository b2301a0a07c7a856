"""Annotations, as attributes of outputs."""

from __future__ import annotations

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request.annotation import read_annotations


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a=b=c"], {"annotation.a": "b=c"}),
        (["manifest:a=b"], {"annotation-manifest.a": "b"}),
        (
            ["index,manifest[linux/arm64/v8]:a=b"],
            {"annotation-index.a": "b", "annotation-manifest[linux/arm64/v8].a": "b"},
        ),
        (["manifest-descriptor[x86_64]:a=b"], {"annotation-manifest-descriptor[linux/amd64].a": "b"}),
        (["index[linux/amd64]:a=b"], {"annotation-index.a": "b"}),
        (["a="], {"annotation.a": ""}),
        ({"a": "b", "index-descriptor:c": "d"}, {"annotation.a": "b", "annotation-index-descriptor.c": "d"}),
        (None, {}),
    ],
)
def test_annotations(given: object, expected: dict[str, str]) -> None:
    assert read_annotations(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a"], "invalid annotation 'a', expected key=value"),
        (["layer:a=b"], "unknown annotation type 'layer'"),
        (["manifest[:a=b"], "invalid annotation type"),
        (["manifest[nonsense]:a=b"], "invalid platform"),
        ({"a": 3}, "the value of 'a' must be a text"),
    ],
)
def test_annotations_that_cannot_be(given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_annotations(given)
