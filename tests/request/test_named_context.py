"""Further contexts: their names, and what each kind of value is told to the frontend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request.named_context import (
    ImageContext,
    LocalContext,
    OciLayoutContext,
    TargetContext,
    mount_name,
    normalise_name,
    option,
    parse,
    read_named_contexts,
)
from buildkit_session.request.remote_context import GitSource, HttpSource

if TYPE_CHECKING:
    from buildkit_session.request.named_context import NamedContext

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", "base"),
        ("base:latest", "base"),
        ("base:1", "base:1"),
        ("docker.io/library/alpine:latest", "alpine"),
        ("index.docker.io/library/alpine", "alpine"),
        ("library/alpine", "alpine"),
        ("library/a/b", "library/a/b"),
        ("docker.io/a/b", "a/b"),
        ("localhost/a", "localhost/a"),
        ("Host/a", "Host/a"),
        ("host:5000/a:latest", "host:5000/a"),
        (f"alpine@{DIGEST}", f"alpine@{DIGEST}"),
        ("alpine::linux/arm64", "alpine::linux/arm64"),
    ],
)
def test_names_are_image_references(name: str, expected: str) -> None:
    assert normalise_name(name) == expected


@pytest.mark.parametrize("name", ["", "Base", "a b", "-a", "a:", "0" * 64, "a@b", None])
def test_names_that_are_none(name: object) -> None:
    with pytest.raises(InputError, match="invalid context name"):
        normalise_name(name)


@pytest.mark.parametrize(
    ("text", "name", "context", "told"),
    [
        ("lib=../lib", "lib", LocalContext(Path("../lib")), "local:lib"),
        ("context=a=b", "context", LocalContext(Path("a=b")), "local:_context"),
        ("a=docker-image://alpine:3", "a", ImageContext("alpine:3"), "docker-image://alpine:3"),
        ("a=https://h/x.tar", "a", HttpSource("https://h/x.tar"), "https://h/x.tar"),
        ("a=git@h:r#v", "a", GitSource("git@h:r#v", "v", over_ssh=True), "git@h:r#v"),
        ("a=target:t", "a", TargetContext("t"), "target:t"),
        ("a=oci-layout://p", "a", OciLayoutContext(Path("p")), None),
        ("a=oci-layout:///p:v1", "a", OciLayoutContext(Path("/p"), "v1"), None),
        (f"a=oci-layout://p@{DIGEST}", "a", OciLayoutContext(Path("p"), "latest", DIGEST), None),
        (f"a=oci-layout://p:x@{DIGEST}", "a", OciLayoutContext(Path("p"), "x", DIGEST), None),
    ],
)
def test_values(text: str, name: str, context: NamedContext, told: str | None) -> None:
    assert parse(text) == (name, context)
    assert option(name, context) == told


def test_a_layout_is_named_by_the_session() -> None:
    assert OciLayoutContext(Path("p"), "v1").option("store", DIGEST) == f"oci-layout://store:v1@{DIGEST}"


def test_names_of_mounts_do_not_collide_with_the_builds_own() -> None:
    assert [mount_name(name) for name in ("context", "dockerfile", "lib")] == ["_context", "_dockerfile", "lib"]


def test_mappings_and_objects(tmp_path: Path) -> None:
    given = {"docker.io/library/base": "docker-image://x", "lib": tmp_path, "img": ImageContext("y")}
    assert read_named_contexts(given) == {
        "base": ImageContext("x"),
        "lib": LocalContext(tmp_path),
        "img": ImageContext("y"),
    }
    assert read_named_contexts(["a=1", "", "a=2"]) == {"a": LocalContext(Path("2"))}
    assert read_named_contexts(None) == read_named_contexts(()) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lib", "invalid context value: lib, expected key=value"),
        ("a=", "must be a path, an image or a URL"),
        ("a=oci-layout://:tag", "names no directory"),
        ({"a": 3}, "must be a path, an image or a URL, not 3"),
        (3, "must be a mapping"),
        ([3], "must be a text such as lib=../lib"),
    ],
)
def test_mistakes(given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_named_contexts(given)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    LocalContext(tmp_path).check("a")
    with pytest.raises(InputError, match=r"failed to get build context a: .*/missing does not exist"):
        LocalContext(tmp_path / "missing").check("a")
    with pytest.raises(InputError, match="is not a directory"):
        LocalContext(tmp_path / "file").check("a")
    with pytest.raises(InputError, match=r"is no OCI layout, it has no index.json"):
        OciLayoutContext(tmp_path).check("a")
    (tmp_path / "index.json").touch()
    OciLayoutContext(tmp_path).check("a")
