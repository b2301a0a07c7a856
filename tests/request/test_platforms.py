"""Platforms and their usual names."""

from __future__ import annotations

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request import platforms
from buildkit_session.request.platforms import parse, read_platforms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/X86-64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel/v7", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("windows(10.0.17763)/amd64", "windows/amd64"),
        ("s390x", "linux/s390x"),
        ("x86_64", "linux/amd64"),
        ("new/cpu/v3", "new/cpu/v3"),
    ],
)
def test_usual_names(text: str, expected: str) -> None:
    assert read_platforms(text) == (expected,)


def test_lists() -> None:
    assert read_platforms(["linux/amd64,linux/arm64", "linux/arm"]) == ("linux/amd64", "linux/arm64", "linux/arm/v7")
    assert read_platforms("") == ()


def test_this_machine() -> None:
    here = str(platforms.local())
    assert here.startswith("linux/")
    assert read_platforms(["local", "LOCAL", "linux"]) == (here,) * 3
    assert here == str(parse(here).normalised())


@pytest.mark.parametrize("text", ["a/b/c/d", "linux/", "linux amd64", "/amd64", "linux/*", "nonsense", "linux(/amd64"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(InputError, match="invalid platform"):
        read_platforms([text])
