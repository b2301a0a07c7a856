"""Where a build takes its cache from, and where it puts it: ``--cache-from`` and ``--cache-to``.

Whether a daemon can serve a type of cache is asked later; what it needs from the environment of the client is filled
in here.

Source: docker/buildx:util/buildflags/cache.go, build/opt.go (CreateCaches, addGithubToken, addAwsCredentials,
isActive); moby/buildkit:client/solve.go (parseCacheOptions).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.fsutil.quota import UNLIMITED, Limits
from buildkit_session.quantity import read_count, read_size
from buildkit_session.request.environment import is_on
from buildkit_session.request.fields import read_fields, split_pair
from buildkit_session.wording import a_type, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CacheEntry",
    "CacheLike",
    "complete",
    "parse_cache_from",
    "parse_cache_to",
    "read_cache_from",
    "read_cache_to",
]

_WHAT: Final = "a cache entry"  # not its text: it may hold credentials
# Shown in a repr; all other values may be secrets.
_HARMLESS: Final = frozenset(
    {"bucket", "compression", "dest", "digest", "ignore-error", "mode", "name", "ref", "region", "scope", "src", "tag"}
)


_LIMITS: Final = {"max-size": "max_bytes", "max-bytes": "max_bytes", "max-entries": "max_entries"}


@dataclass(frozen=True, slots=True, repr=False)
class CacheEntry:
    """One place for cache, in BuildKit's terms.

    Attributes:
        type: ``registry``, ``local``, ``inline``, ``gha``, ``s3``, ``azblob`` or what else the daemon knows.
        attrs: what the type needs: ``ref`` of a registry; ``src`` or ``dest``, a directory, of ``local``, which stays
            exactly as it was given.
        limits: what the daemon may write to a directory; of ``local`` in ``cache_to`` alone.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)
    limits: Limits = UNLIMITED

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value if key in _HARMLESS else '***'}" for key, value in self.attrs.items())
        return f"CacheEntry({self.type!r}, {shown})" if shown else f"CacheEntry({self.type!r})"


CacheLike: TypeAlias = "str | CacheEntry | Mapping[str, str | int | os.PathLike[str]]"


def parse_cache_from(given: CacheLike) -> list[CacheEntry]:
    """Read one value of ``--cache-from``.

    A text without any ``=`` is a list of image references, joined by commas; others are a record such as
    ``type=local,src=cache``. A mapping has the same fields.

    Returns:
        The entries; none for an empty text.

    Raises:
        InputError: the text breaks the grammar, or the type or what the type needs is missing.
    """
    return [_require(entry, "src", "importer") for entry in _parse(given)]


def parse_cache_to(given: CacheLike) -> list[CacheEntry]:
    """Read one value of ``--cache-to``; as :func:`parse_cache_from`, but ``local`` has ``dest``.

    ``local`` also takes ``max-size``, such as ``10GB``, and ``max-entries``: the most that is written to the directory,
    in bytes and in blobs. What is there already does not count. The daemon is not told of them.
    """
    return [_limited(_require(entry, "dest", "exporter")) for entry in _parse(given)]


def read_cache_from(given: object) -> tuple[CacheEntry, ...]:
    """Take one value of ``--cache-from`` or several.

    Raises:
        InputError: as :func:`parse_cache_from`.
    """
    return tuple(entry for one in _several("cache_from", given) for entry in parse_cache_from(one))


def read_cache_to(given: object) -> tuple[CacheEntry, ...]:
    """Take one value of ``--cache-to`` or several.

    Raises:
        InputError: as :func:`parse_cache_to`.
    """
    return tuple(entry for one in _several("cache_to", given) for entry in parse_cache_to(one))


def complete(entries: Iterable[CacheEntry], environ: Mapping[str, str]) -> tuple[CacheEntry, ...]:
    """Fill in what the environment knows: GitHub's token and addresses, credentials for S3.

    A ``gha`` entry that has no token or address even then is left out: the same command line shall work outside of
    GitHub's machines. Of the places where AWS keeps credentials only the environment is looked at; a daemon without any
    looks in its own.
    """
    filled = (_COMPLETIONS.get(entry.type, _unchanged)(entry, environ) for entry in entries)
    return tuple(entry for entry in filled if _is_active(entry))


def _several(name: str, given: object) -> Iterable[CacheLike]:
    if isinstance(given, str | CacheEntry | Mapping):
        return (given,)
    if not isinstance(given, list | tuple):
        raise InputError(f"{name} must be a list of cache entries, not {a_type(given)}")
    return given


def _parse(given: CacheLike) -> list[CacheEntry]:
    if isinstance(given, CacheEntry):
        return [given]
    if isinstance(given, Mapping):
        return [_entry([(key, _text(key, value)) for key, value in given.items()])]
    if not isinstance(given, str):
        raise InputError(f"a cache entry must be a text, a mapping or a CacheEntry, not {a_type(given)}")
    if not given:
        return []
    fields = read_fields(given, _WHAT)
    if "=" not in given:
        return [CacheEntry("registry", {"ref": ref}) for ref in fields if ref]
    return [_entry([split_pair(item, _WHAT) for item in fields])]


def _entry(pairs: list[tuple[str, str]]) -> CacheEntry:
    attrs = {key.lower(): value for key, value in pairs}
    kind = attrs.pop("type", "")
    if not kind:
        keys = ", ".join(attrs) or "nothing else"
        raise InputError(f"type is required for a cache entry (it has {keys}): write type=registry,ref=... or one ref")
    return CacheEntry(kind, attrs)


def _text(key: str, value: object) -> str:
    """The value of a field; a number or a truth, as in ``{"max-size": 10_000}``, is written out."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if not isinstance(value, int):
        raise InputError(f"the value of {key!r} of a cache entry must be a text, not {a_type(value)}")
    return str(value)


def _require(entry: CacheEntry, place: str, role: str) -> CacheEntry:
    needed = {"local": place, "registry": "ref"}.get(entry.type)
    if needed is not None and not entry.attrs.get(needed):
        raise InputError(f"{entry.type} cache {role} requires {needed}: write type={entry.type},{needed}=...")
    return entry


def _limited(entry: CacheEntry) -> CacheEntry:
    """Take the limits out of the fields: a daemon would ignore them, and the caller believe in them."""
    given = {key: value for key, value in entry.attrs.items() if key.replace("_", "-") in _LIMITS}
    _require_no_misspelt(entry)
    if not given:
        return entry
    if entry.type != "local":
        raise InputError(f"{', '.join(given)} of a cache entry is for type=local: others write nothing on this side")
    read = {_LIMITS[key.replace("_", "-")]: (key, value) for key, value in given.items()}
    max_bytes = read_size(*read["max_bytes"]) if "max_bytes" in read else entry.limits.max_bytes
    max_entries = read_count(*read["max_entries"]) if "max_entries" in read else entry.limits.max_entries
    attrs = {key: value for key, value in entry.attrs.items() if key not in given}
    return replace(entry, attrs=attrs, limits=Limits(max_bytes, max_entries))


def _require_no_misspelt(entry: CacheEntry) -> None:
    """Refuse what is nearly the name of a limit: a daemon ignores fields that it does not know."""
    for key in entry.attrs if entry.type == "local" else ():
        if key.startswith("max") and key.replace("_", "-") not in _LIMITS:
            raise InputError(f"{key} is no field of a cache entry{did_you_mean(key, _LIMITS)}")


def _unchanged(entry: CacheEntry, _environ: Mapping[str, str]) -> CacheEntry:
    return entry


def _complete_gha(entry: CacheEntry, environ: Mapping[str, str]) -> CacheEntry:
    attrs = dict(entry.attrs)
    version = attrs.get("version", "2" if is_on(environ, "ACTIONS_CACHE_SERVICE_V2") else "")
    sources = [("token", ("ACTIONS_RUNTIME_TOKEN",)), ("url", ("ACTIONS_CACHE_URL", "ACTIONS_RESULTS_URL"))]
    if version == "2":
        sources.append(("url_v2", ("ACTIONS_RESULTS_URL",)))
    for key, names in sources:
        known = [environ[name] for name in names if name in environ]
        if key not in attrs and known:
            attrs[key] = known[0]
    return replace(entry, attrs=attrs)


def _complete_s3(entry: CacheEntry, environ: Mapping[str, str]) -> CacheEntry:
    attrs = dict(entry.attrs)
    key_id, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if {"access_key_id", "secret_access_key"} <= set(attrs) or not key_id or not secret:
        return entry  # a session token belongs to its keys
    attrs = {"access_key_id": key_id, "secret_access_key": secret} | attrs
    if token := environ.get("AWS_SESSION_TOKEN"):
        attrs.setdefault("session_token", token)
    return replace(entry, attrs=attrs)


_COMPLETIONS: Final = {"gha": _complete_gha, "s3": _complete_s3}


def _is_active(entry: CacheEntry) -> bool:
    attrs = entry.attrs
    return entry.type != "gha" or bool(attrs.get("token") and (attrs.get("url") or attrs.get("url_v2")))
