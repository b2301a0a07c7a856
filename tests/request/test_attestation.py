"""Attestations: what each spelling asks for, and the default."""

from __future__ import annotations

import pytest

from buildkit_session.errors import InputError, UnsupportedError
from buildkit_session.request.attestation import for_frontend, read_attestations

MIN = {"provenance": "mode=min,inline-only=true"}


@pytest.mark.parametrize(
    ("attests", "expected"),
    [
        (["type=sbom"], {"sbom": "type=sbom"}),
        ("type=sbom,generator=a", {"sbom": "type=sbom,generator=a"}),
        (["type=provenance,b=2,a=1"], {"provenance": "type=provenance,a=1,b=2"}),
        (['type=sbom,"generator=a,b"'], {"sbom": 'type=sbom,"generator=a,b"'}),
        ([" Type=sbom,DISABLED=false"], {"sbom": "type=sbom"}),
        (["type=sbom,disabled=true"], {"sbom": None}),
        (["type=sbom,a=1", "type=sbom,a=2", ""], {"sbom": "type=sbom,a=1"}),
        (["type=other"], {"other": "type=other"}),
        ({"provenance": "mode=max"}, {"provenance": "type=provenance,mode=max"}),
        ({"sbom": True, "provenance": False}, {"sbom": "type=sbom", "provenance": None}),
        ({"sbom": {"generator": "a"}, "provenance": None}, {"sbom": "type=sbom,generator=a", "provenance": None}),
        (None, {}),
    ],
)
def test_attests(attests: object, expected: dict[str, str | None]) -> None:
    assert read_attestations(attests) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "type=provenance"),
        ("1", "type=provenance"),
        ("true", "type=provenance"),
        (False, None),
        ("false", None),
        ("mode=max", "type=provenance,mode=max"),
        ("mode=max,disabled=true", None),
        ({"mode": "max"}, "type=provenance,mode=max"),
    ],
)
def test_shorthands(value: object, expected: str | None) -> None:
    assert read_attestations(provenance=value) == {"provenance": expected}
    assert read_attestations(sbom="", provenance=None) == {}


def test_the_first_of_a_type_counts() -> None:
    assert read_attestations(["type=sbom,a=1"], sbom=False, provenance=True) == {
        "sbom": "type=sbom,a=1",
        "provenance": "type=provenance",
    }


@pytest.mark.parametrize(
    ("attests", "message"),
    [
        (["sbom"], "invalid value 'sbom'"),
        (["mode=max"], "attestation type not specified"),
        (["foo"], "expected key=value; write type=sbom"),
        (["type=sbom,disabled=maybe"], "invalid value disabled=maybe"),
        ({"": "x=y"}, "attestation type not specified"),
        ({"sbom": 3}, "must be true, false or a text"),
        (3, "attests must be a list"),
        ([3], "attests must be a list"),
    ],
)
def test_mistakes(attests: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_attestations(attests)


@pytest.mark.parametrize(
    ("attests", "expected"),
    [
        ({}, MIN),
        ({"provenance": None}, {}),
        ({"sbom": None}, MIN),
        ({"sbom": "type=sbom"}, {"sbom": "type=sbom"} | MIN),
        ({"provenance": "type=provenance,mode=max"}, {"provenance": "type=provenance,mode=max"}),
    ],
)
def test_the_default(attests: dict[str, str | None], expected: dict[str, str]) -> None:
    assert for_frontend(attests, supported=True, environ={}) == expected


def test_the_environment_speaks_against_the_default() -> None:
    assert for_frontend({}, supported=True, environ={"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}) == {}
    assert for_frontend({}, supported=True, environ={"BUILDX_NO_DEFAULT_ATTESTATIONS": "0"}) == MIN
    with pytest.raises(InputError, match="invalid BUILDX_NO_DEFAULT_ATTESTATIONS 'maybe'"):
        for_frontend({}, supported=True, environ={"BUILDX_NO_DEFAULT_ATTESTATIONS": "maybe"})


def test_without_support_only_what_is_asked_for_is_an_error() -> None:
    assert for_frontend({"sbom": None}, supported=False, environ={}) == {}
    with pytest.raises(UnsupportedError, match=r"attestations \(sbom\) are not supported"):
        for_frontend({"sbom": "type=sbom"}, supported=False, environ={})
