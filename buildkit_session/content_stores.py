"""OCI layouts on this machine that a build reads its cache from, writes its cache to, or exports its image into.

The daemon only moves blobs. Which of them is the cache or the image is looked up here before a build, and noted here
after one that has succeeded.

Source: moby/buildkit:client/solve.go (parseCacheOptions, solve); docker/buildx:build/opt.go (toSolveOpt).
"""

from __future__ import annotations

import json
import logging
from base64 import b64decode
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from buildkit_session.errors import InputError, RemoteProtocolError, TransferError
from buildkit_session.fsutil.quota import Quota
from buildkit_session.output import DockerOutput, OciOutput
from buildkit_session.services.oci_contents import missing_blob
from buildkit_session.services.oci_index import DEFAULT_TAG, Descriptor, add_manifest, resolve
from buildkit_session.services.oci_ingests import remove_stale
from buildkit_session.services.oci_layout import OciLayout
from buildkit_session.truth import TRUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from buildkit_session.output import Output
    from buildkit_session.request.cache import CacheEntry

__all__ = ["ContentStores"]

EXPORT: Final = "export"
"""The id of the one store that exporters write to."""

MANIFEST: Final = "cache.manifest"
DESCRIPTOR: Final = "containerimage.descriptor"
NAMES: Final = "image.name"

log = logging.getLogger("buildkit_session.cache")


class ContentStores:
    """The layouts of one build. Blocks on the disk: make and finish it in a thread.

    Attributes:
        stores: by the id that the daemon knows each by.
        cache_from: the entries to send; those of layouts have the digest of what their tag stands for.
        warnings: what was left out, for people: a cache that is missing is no reason to fail.

    Raises:
        InputError: several outputs are layouts.
    """

    def __init__(self, cache_from: Iterable[CacheEntry], cache_to: Iterable[CacheEntry], outputs: Iterable[Output]):
        self.stores: dict[str, OciLayout] = {}
        self.warnings: list[str] = []
        self._cache_to = [entry for entry in cache_to if entry.type == "local"]
        self._layouts = [out for out in outputs if isinstance(out, OciOutput | DockerOutput) and not out.tar]
        self.cache_from = [found for entry in cache_from if (found := self._read_from(entry)) is not None]
        for entry in self._cache_to:
            quota = Quota(entry.limits, "the local cache", "--cache-to")
            self.stores[f"local:{entry.attrs['dest']}"] = _writable(entry.attrs["dest"], quota)
        if len(self._layouts) > 1:
            raise InputError("a build can write one OCI layout (tar=false) at most; export the others as archives")
        for out in self._layouts:
            self.stores[EXPORT] = _writable(_directory(out), Quota(out.limits))

    def finish(self, response: Mapping[str, str], failure: Exception | None = None) -> list[str]:
        """Note what a build that has succeeded has written; all of it must be there.

        Args:
            response: of its exporters.
            failure: what went wrong on this side meanwhile, if anything.

        Returns:
            Warnings: caches that could not be written, and need not be.

        Raises:
            RemoteProtocolError: it does not describe what was written.
            TransferError: an index cannot be written, or the daemon reports success for what it has not written.
        """
        warnings = [warning for entry in self._cache_to for warning in self._note_cache(entry, response, failure)]
        for out in self._layouts:
            names = [name for name in response.get(NAMES, "").split(",") if name]
            fields = _object(_unbase64(response.get(DESCRIPTOR, "")))
            _require_whole(self.stores[EXPORT], fields, "image")
            add_manifest(_directory(out), fields, names=names)
        for store in self.stores.values():
            if store.writable:
                store.abandon()
        return warnings

    def _note_cache(self, entry: CacheEntry, response: Mapping[str, str], failure: Exception | None) -> Iterator[str]:
        dest = entry.attrs["dest"]
        try:
            if (text := response.get(MANIFEST)) is None:
                raise TransferError(f"the daemon reports success, but it has written no cache to {dest}")
            fields = _object(text)
            _require_whole(self.stores[f"local:{dest}"], fields, "cache")
            add_manifest(dest, fields, tag=entry.attrs.get("tag") or DEFAULT_TAG)
        except TransferError as error:
            if entry.attrs.get("ignore-error") not in TRUE:
                raise
            log.info("%s", error)
            yield f"local cache export to {dest} failed, which is ignored: {failure or error}"

    def _read_from(self, entry: CacheEntry) -> CacheEntry | None:
        if entry.type != "local":
            return entry
        source = entry.attrs["src"]
        try:
            digest = entry.attrs.get("digest") or str(resolve(source, entry.attrs.get("tag") or DEFAULT_TAG).digest)
        except InputError as error:
            self.warnings.append(f"local cache import at {source} is left out: {error}")
            log.info("%s", self.warnings[-1])
            return None
        self.stores[f"local:{source}"] = OciLayout(source)
        return replace(entry, attrs={**entry.attrs, "digest": digest})


def _writable(directory: str | Path, quota: Quota) -> OciLayout:
    layout = OciLayout(directory, writable=True, quota=quota)
    remove_stale(layout)
    return layout


def _require_whole(layout: OciLayout, fields: dict[str, Any], what: str) -> None:
    """Look for everything that was written: a daemon need not have noticed, or need not tell, that this side could not.

    Raises:
        TransferError: something is missing.
    """
    described = Descriptor.parse(fields)
    if described is not None and (missing := missing_blob(layout, described)) is not None:
        raise TransferError(
            f"the daemon reports success, but blob {missing.digest} of the {what} was not written to {layout.directory}"
        )


def _directory(out: OciOutput | DockerOutput) -> Path:
    path: Any = out.dest  # the output has checked that
    directory: Path = path
    return directory


def _unbase64(text: str) -> str:
    try:
        return b64decode(text, validate=True).decode()
    except ValueError as error:
        raise RemoteProtocolError("the daemon's description of what it has exported is not base64") from error


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError("the daemon's description of what it has exported is not JSON") from error
    if not isinstance(value, dict):
        raise RemoteProtocolError("the daemon's description of what it has exported is no JSON object")
    return value
