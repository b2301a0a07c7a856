"""Mistakes of a caller are named before anything is sent."""

from __future__ import annotations

import traceback

import pytest

from buildkit_session.errors import BuildError, FailedStep, InputError
from buildkit_session.request import arguments

GOOD_TAGS = [
    "app",
    "app:1.0",
    "a/b/c:latest",
    "localhost:5000/app",
    "registry.example.com/team/app_x:v1",
    "[::1]:5000/app",
    "a--b__c.d",
    "Host.Example/app",
]
BAD_TAGS = [
    "",
    "App",
    "BAD:x:y",
    "a b",
    "-a",
    "a//b",
    "app:",
    "app:-x",
    "app@sha256:" + "0" * 64,
    "a___b",
    "app:" + "x" * 129,
]


@pytest.mark.parametrize("tag", GOOD_TAGS)
def test_good_tags(tag: str) -> None:
    assert arguments.tags([tag]) == (tag,)


@pytest.mark.parametrize("tag", BAD_TAGS)
def test_bad_tags(tag: str) -> None:
    with pytest.raises(InputError, match="invalid tag"):
        arguments.tags([tag])


def test_one_text_is_a_sequence_of_one() -> None:
    assert arguments.tags("app:dev") == ("app:dev",)


@pytest.mark.parametrize("value", [3, [3], [b"app"], {"app": 1}.items(), None])
def test_what_is_no_text(value: object) -> None:
    with pytest.raises(InputError, match="tags must be a list of texts"):
        arguments.tags(value)


def test_networks() -> None:
    assert [arguments.network(mode) for mode in (None, "none", "host", "default")] == ["", "none", "host", "default"]
    with pytest.raises(InputError, match='network mode "bridge" not supported'):
        arguments.network("bridge")


def test_variables() -> None:
    assert arguments.variables("build_args", None) == {}
    assert arguments.variables("build_args", {"A": "1", "B": None}) == {"A": "1", "B": None}


@pytest.mark.parametrize("value", [["A=1"], "A=1", {"A": 1}, {1: "A"}])
def test_what_is_no_mapping_of_texts(value: object) -> None:
    with pytest.raises(InputError, match="build_args"):
        arguments.variables("build_args", value)


@pytest.mark.parametrize("value", [["A=1"], {"A": 1}, {"A": None}, {"": "A"}])
def test_what_are_no_attributes(value: object) -> None:
    assert arguments.attributes("frontend_attrs", {"A": ""}) == {"A": ""}
    with pytest.raises(InputError, match=r"^frontend_attrs"):
        arguments.attributes("frontend_attrs", value)


def test_values_of_variables_are_not_shown() -> None:
    """People put secrets there."""
    with pytest.raises(InputError) as caught:
        arguments.variables("build_args", {"TOKEN": b"hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_traceback_shows_the_failed_step_and_its_log() -> None:
    """And what a log holds cannot drive the terminal."""
    step = FailedStep("[2/2] RUN make", "sha256:1", "exit code: 2", ("one", "two\x1b[2J"))
    shown = "".join(traceback.format_exception(BuildError("failed", step=step)))
    assert "failed step: [2/2] RUN make\n  one\n  two\\x1b[2J\n" in shown
