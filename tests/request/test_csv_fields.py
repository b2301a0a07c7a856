"""The record that most values of the command line are."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.errors import InputError
from buildkit_session.request.fields import read_fields, split_pair, write_record


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a=b,c", ["a=b", "c"]),
        ('"a=b,c",d', ["a=b,c", "d"]),
        ('"a""b"', ['a"b']),
        (" a , b ", [" a ", " b "]),
        ("a,\r\n", ["a", ""]),
        ("a\n\n", ["a\n"]),
        ("", [""]),
    ],
)
def test_records(text: str, fields: list[str]) -> None:
    assert read_fields(text, "x") == fields


@pytest.mark.parametrize("text", ['a"b', '"a', '"a"b', 'a,"', '"""'])
def test_a_misplaced_quote(text: str) -> None:
    with pytest.raises(InputError, match="misplaced quote in a thing after character"):
        read_fields(text, "a thing")


def test_the_first_equals_sign_splits() -> None:
    assert split_pair("a=b=c", "x") == ("a", "b=c")
    with pytest.raises(InputError, match="invalid value 'a' in a thing: expected key=value"):
        split_pair("a", "a thing")


@given(st.lists(st.text(alphabet='ab=,"\n ', min_size=1), min_size=1))
def test_what_is_written_is_read(values: list[str]) -> None:
    record = write_record(("k", value) for value in values)
    if not record.endswith("\n"):
        assert read_fields(record, "x") == [f"k={value}" for value in values]


@given(st.text(alphabet='ab,"', min_size=1))
def test_the_standard_library_agrees(text: str) -> None:
    try:
        fields = read_fields(text, "x")
    except InputError:
        return
    assert fields == next(csv.reader([text], strict=True))
