"""What is written about a finished build."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.engine.metadata_file import MAX_DEPTH, image_id, metadata, metadata_json, minimal_provenance


def encoded(value: object) -> str:
    return b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize("value", [{"a": 1}, [{"a": 1}, {}]])
def test_structures_are_decoded(value: object) -> None:
    assert metadata({"k": encoded(value)}) == {"k": value}


@pytest.mark.parametrize(
    "text",
    [
        "sha256:00",
        "docker.io/library/a:b",
        "1234",  # is base64 too
        encoded(1),
        encoded("word"),
        encoded({}),
        encoded([]),
        encoded([1]),
        encoded([{}, 1]),
        '{"a": 1}',  # without base64
        b64encode(b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1)).decode(),
        b64encode(b"[" * 100_000).decode(),
        b64encode(b"\xff").decode(),
        "",
    ],
)
def test_all_else_stays_text(text: str) -> None:
    assert metadata({"k": text}) == {"k": text}


def test_the_answer_to_a_call_is_not_encoded() -> None:
    assert metadata({"result.json": '{"a": 1}', "version": "1.0.0"}) == {"result.json": {"a": 1}, "version": "1.0.0"}


def test_form_of_the_file() -> None:
    """As buildx writes it: sorted, indented, and safe inside a page of HTML."""
    values = metadata(
        {"z": "<é&>\u2028", "a": encoded({"k": [], "e": {}})}, ref="default/default/x", warnings=[{"level": 1}]
    )
    assert metadata_json(values).decode() == (
        '{\n  "a": {\n    "k": [],\n    "e": {}\n  },\n  "buildx.build.ref": "default/default/x",\n'
        '  "buildx.build.warnings": [\n    {\n      "level": 1\n    }\n  ],\n'
        '  "z": "\\u003cé\\u0026\\u003e\\u2028"\n}'
    )  # fmt: skip


def test_nothing_to_say() -> None:
    assert metadata_json(metadata({})) == b"{}"


@given(st.dictionaries(st.text(), st.text() | st.builds(encoded, st.recursive(st.none(), st.lists, max_leaves=9))))
def test_any_response_can_be_written(response: dict[str, str]) -> None:
    assert json.loads(metadata_json(metadata(response))) == metadata(response)


@pytest.mark.parametrize(
    ("response", "by_digest", "expected"),
    [
        ({"containerimage.digest": "d", "containerimage.config.digest": "c"}, False, "c"),
        ({"containerimage.digest": "d", "containerimage.config.digest": "c"}, True, "d"),
        ({"containerimage.digest": "d"}, False, "d"),
        ({}, False, ""),
        ({}, True, ""),
    ],
)
def test_image_id(response: dict[str, str], by_digest: bool, expected: str) -> None:
    assert image_id(response, by_digest=by_digest) == expected


def test_minimal_provenance() -> None:
    predicate = {"builder": {"id": ""}, "buildConfig": {"llbDefinition": []}, "metadata": {}}
    assert minimal_provenance(predicate) == {"builder": {"id": ""}}
