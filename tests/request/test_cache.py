"""Cache entries: the grammar, and what the environment fills in."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_session.errors import InputError
from buildkit_session.fsutil.quota import Limits
from buildkit_session.request.cache import CacheEntry, complete, parse_cache_from, parse_cache_to, read_cache_from

ACTIONS = {"ACTIONS_RUNTIME_TOKEN": "t", "ACTIONS_CACHE_URL": "http://v1", "ACTIONS_RESULTS_URL": "http://v2"}


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        ("user/app:cache", [CacheEntry("registry", {"ref": "user/app:cache"})]),
        ("a,b", [CacheEntry("registry", {"ref": "a"}), CacheEntry("registry", {"ref": "b"})]),
        ("type=registry,ref=a,MODE=max", [CacheEntry("registry", {"ref": "a", "mode": "max"})]),
        ('type=local,"src=a,b"', [CacheEntry("local", {"src": "a,b"})]),
        ("type=local,src=./a/../b/", [CacheEntry("local", {"src": "./a/../b/"})]),
        ("type=gha", [CacheEntry("gha")]),
        ("type=new,x=y=z", [CacheEntry("new", {"x": "y=z"})]),
    ],
)
def test_texts(text: str, entries: list[CacheEntry]) -> None:
    assert parse_cache_from(text) == entries


@pytest.mark.parametrize(
    ("fields", "limits"),
    [
        ("max-size=1.5kB", Limits(1500)),
        ("MAX_BYTES=1Ki,max-entries=5", Limits(1024, 5)),
        ("max_entries=5,mode=max", Limits(None, 5)),
    ],
)
def test_limits_of_a_directory_are_ours(fields: str, limits: Limits) -> None:
    """The daemon is not told of them."""
    (entry,) = parse_cache_to(f"type=local,dest=c,{fields}")
    assert entry.limits == limits
    assert entry.attrs == ({"dest": "c", "mode": "max"} if "mode" in fields else {"dest": "c"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=registry,ref=a,max-size=1GB", "max-size of a cache entry is for type=local"),
        ("type=local,dest=c,max-size=much", "for max-size: expected a size such as 10GB"),
        ("type=local,dest=c,max-size=0", "is not a positive number"),
        ("type=local,dest=c,maxsize=1GB", "maxsize is no field of a cache entry; did you mean max-size?"),
        ("type=local,dest=c,max-entries=x", "for max-entries: expected a number"),
    ],
)
def test_limits_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_cache_to(text)


def test_objects_are_as_good_as_texts() -> None:
    assert parse_cache_to({"type": "local", "dest": "c"}) == [CacheEntry("local", {"dest": "c"})]
    assert parse_cache_to(CacheEntry("inline")) == [CacheEntry("inline")]
    (entry,) = parse_cache_to({"type": "local", "dest": Path("c"), "max-size": 1000, "ignore-error": True})
    assert entry == CacheEntry("local", {"dest": "c", "ignore-error": "true"}, Limits(1000))
    with pytest.raises(InputError, match="the value of 'mode' of a cache entry must be a text, not a NoneType"):
        parse_cache_to({"type": "local", "dest": "c", "mode": None})  # type: ignore[dict-item]  # what is tested


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ref=a", "type is required for a cache entry (it has ref)"),
        ("type=,ref=a", "type is required"),
        ("type=registry,a", "invalid value 'a' in a cache entry"),
        ("type=registry", "registry cache importer requires ref"),
        ("type=local,dest=a", "local cache importer requires src"),
        ('type=s3,secret_access_key=k"ey', "misplaced quote in a cache entry"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_cache_from(text)
    assert message in str(caught.value)
    assert "k" + '"' + "ey" not in str(caught.value)


def test_an_export_to_a_directory_needs_its_name() -> None:
    with pytest.raises(InputError, match="local cache exporter requires dest"):
        parse_cache_to("type=local,src=a")


@pytest.mark.parametrize("given", [3, None, ["a"]])
def test_what_is_no_entry(given: object) -> None:
    with pytest.raises(InputError, match="must be a text, a mapping or a CacheEntry"):
        parse_cache_from(given)  # type: ignore[arg-type]  # what is tested


def test_several_or_one() -> None:
    a, b = CacheEntry("registry", {"ref": "a"}), CacheEntry("registry", {"ref": "b"})
    assert read_cache_from("a,b") == read_cache_from(["a", "", b]) == (a, b)
    assert read_cache_from(a) == read_cache_from({"type": "registry", "ref": "a"}) == (a,)
    with pytest.raises(InputError, match="cache_from must be a list"):
        read_cache_from(3)


def test_credentials_are_not_shown() -> None:
    entry = CacheEntry("s3", {"bucket": "b", "secret_access_key": "hidden", "unknown": "hidden"})
    assert repr(entry) == "CacheEntry('s3', bucket=b, secret_access_key=***, unknown=***)"


def test_githubs_token_and_address_come_from_the_environment() -> None:
    assert complete([CacheEntry("gha", {"scope": "s"})], ACTIONS) == (
        CacheEntry("gha", {"scope": "s", "token": "t", "url": "http://v1"}),
    )


@pytest.mark.parametrize(
    ("attrs", "environ", "url", "url_v2"),
    [
        ({}, ACTIONS | {"ACTIONS_CACHE_SERVICE_V2": "true"}, "http://v1", "http://v2"),
        ({"version": "2"}, ACTIONS, "http://v1", "http://v2"),
        ({"version": "1"}, ACTIONS | {"ACTIONS_CACHE_SERVICE_V2": "true"}, "http://v1", None),
        ({}, {"ACTIONS_RUNTIME_TOKEN": "t", "ACTIONS_RESULTS_URL": "http://v2"}, "http://v2", None),
        ({"url": "own", "token": "own"}, ACTIONS, "own", None),
    ],
)
def test_versions_of_githubs_cache(
    attrs: dict[str, str], environ: dict[str, str], url: str | None, url_v2: str | None
) -> None:
    (entry,) = complete([CacheEntry("gha", attrs)], environ)
    assert (entry.attrs.get("url"), entry.attrs.get("url_v2")) == (url, url_v2)


@pytest.mark.parametrize("environ", [{}, {"ACTIONS_RUNTIME_TOKEN": "t"}, {"ACTIONS_CACHE_URL": "http://v1"}])
def test_githubs_cache_is_left_out_elsewhere(environ: dict[str, str]) -> None:
    assert complete([CacheEntry("gha"), CacheEntry("inline")], environ) == (CacheEntry("inline"),)


def test_credentials_for_s3_come_from_the_environment_together() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "k", "AWS_SESSION_TOKEN": "s"}
    (filled,) = complete([CacheEntry("s3", {"bucket": "b"})], environ)
    assert filled.attrs == {"bucket": "b", "access_key_id": "i", "secret_access_key": "k", "session_token": "s"}
    own = CacheEntry("s3", {"access_key_id": "x", "secret_access_key": "y"})
    assert complete([own], environ) == (own,)
    assert complete([CacheEntry("s3")], {"AWS_ACCESS_KEY_ID": "i"}) == (CacheEntry("s3"),)
