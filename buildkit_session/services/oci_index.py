"""``index.json`` of an OCI image layout: which of its blobs are images, and what they are called.

The daemon reads and writes blobs and knows nothing of this file. So the client looks up a tag before a build, and adds
what was written after one that has succeeded. A change is made under the lock that docker buildx takes for it, and
replaces the file as a whole.

Everything here may block.

Source: opencontainers/image-spec:image-layout.md, annotations.md; moby/buildkit:client/ociindex/ociindex.go.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from buildkit_session.errors import InputError, TransferError
from buildkit_session.services.digests import Digest
from buildkit_session.services.oci_layout import OciLayout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["DEFAULT_TAG", "Descriptor", "add_manifest", "resolve"]

DEFAULT_TAG: Final = "latest"

IMAGE_NAME: Final = "io.containerd.image.name"
REF_NAME: Final = "org.opencontainers.image.ref.name"

INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"

MAX_INDEX: Final = 64 * 1024 * 1024
"""Bytes of an ``index.json``; an entry has a few hundred."""

PATIENCE: Final = 10.0
"""Seconds to wait for another program to release the lock, which it holds for milliseconds."""

_OBJECT: Final = re.compile(r"[:@]")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob as others refer to it.

    Attributes:
        digest: of the blob.
        size: bytes.
        media_type: what it is.
        fields: everything that was said of it, as in JSON.
    """

    digest: Digest
    size: int
    media_type: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def parse(cls, fields: object) -> Self | None:
        """Read a decoded JSON object; ``None`` if it is no descriptor."""
        if not isinstance(fields, dict):
            return None
        digest, size, media_type = fields.get("digest"), fields.get("size"), fields.get("mediaType", "")
        found = Digest.parse(digest) if isinstance(digest, str) else None
        if found is None or type(size) is not int or size < 0 or not isinstance(media_type, str):
            return None
        annotations = fields.get("annotations")
        if annotations is not None and not _are_texts(annotations):
            return None
        return cls(found, size, media_type, fields)

    @property
    def annotations(self) -> dict[str, str]:
        """What was noted of it; a copy."""
        return dict(self.fields.get("annotations") or {})


def resolve(directory: str | os.PathLike[str], tag: str = DEFAULT_TAG, *, or_only: bool = False) -> Descriptor:
    """Find what a tag, or the full name of an image, stands for in a layout.

    Args:
        directory: of the layout.
        tag: the tag, name or digest.
        or_only: take the only entry that there is where none has this tag, as build contexts do; a cache is not.

    Returns:
        The descriptor; its blob is there.

    Raises:
        InputError: there is no layout, no such entry, or its blob is missing.
    """
    root = Path(directory)
    manifests = _manifests(_read(root), root)
    found = _find(manifests, tag)
    if found is None and (digest := Digest.parse(tag)) is not None:
        found = _unlisted(root, digest)
    if found is None and or_only and len(manifests) == 1:
        found = manifests[0]
    if found is None:
        raise InputError(f"the OCI layout {root} has no {tag!r}: it has {_known(manifests)}")
    if not OciLayout(root).has(found.digest):
        raise InputError(f"the OCI layout {root} lists {tag!r}, but its blob {found.digest} is missing")
    return found


def add_manifest(
    directory: str | os.PathLike[str], fields: Mapping[str, Any], *, names: Sequence[str] = (), tag: str = DEFAULT_TAG
) -> None:
    """Add an entry to a layout, which becomes one if it is none yet.

    Args:
        directory: of the layout.
        fields: a descriptor as the daemon reports it, decoded from JSON.
        names: full names of the image; each becomes an entry. Entries of the same names are replaced.
        tag: of the one entry there is without names.

    Raises:
        InputError: this is no descriptor, or the layout's index is none.
        TransferError: it cannot be written.
    """
    if (added := Descriptor.parse(dict(fields))) is None:
        raise InputError("the daemon's description of what it has written is no OCI descriptor")
    root = Path(directory)
    keys = [(name, _ref_name(name)) for name in names] or [("", tag)]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            index = _read(root, missing_ok=True)
            manifests = _with(_manifests(index, root), added, keys)
            index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, **index, "manifests": manifests}
            _replace(root / "oci-layout", {"imageLayoutVersion": "1.0.0"})
            _replace(root / "index.json", index)
    except OSError as error:
        raise TransferError(f"cannot write {root / 'index.json'}: {error.strerror}") from error


def _find(manifests: list[Descriptor], tag: str) -> Descriptor | None:
    for key in (IMAGE_NAME, REF_NAME):
        for entry in manifests:
            if entry.annotations.get(key) == tag:
                return entry
    return next((entry for entry in manifests if str(entry.digest) == tag), None)


def _unlisted(root: Path, digest: Digest) -> Descriptor | None:
    """A blob that the index does not list may be asked for all the same, by its digest."""
    descriptor = OciLayout(root).open_blob(digest)
    if descriptor is None:
        return None
    try:
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    return Descriptor(digest, size, fields={"digest": str(digest), "size": size})


def _known(manifests: list[Descriptor]) -> str:
    tags = [
        entry.annotations.get(IMAGE_NAME) or entry.annotations.get(REF_NAME) or str(entry.digest) for entry in manifests
    ]
    return ", ".join(tags[:10]) or "nothing"


def _with(manifests: list[Descriptor], added: Descriptor, keys: list[tuple[str, str]]) -> list[Mapping[str, Any]]:
    """The entries with new ones at their end; a key is the pair of the image's name and its tag."""
    kept = [entry for entry in manifests if _key(entry) not in keys]
    entries = [entry.fields for entry in kept]
    for name, tag in dict.fromkeys(keys):
        named = {IMAGE_NAME: name} if name else {}
        entries.append({**added.fields, "annotations": {**added.annotations, **named, REF_NAME: tag}})
    return entries


def _key(entry: Descriptor) -> tuple[str, str]:
    return entry.annotations.get(IMAGE_NAME, ""), entry.annotations.get(REF_NAME, "")


def _ref_name(name: str) -> str:
    """The tag of a full name, with the digest if there is one.

    Source: containerd/containerd:pkg/reference/reference.go (Parse).
    """
    path = name.partition("/")[2]
    found = _OBJECT.search(path)
    if found is None:
        return ""
    return path[found.start() :] if found[0] == "@" else path[found.end() :]


def _read(root: Path, *, missing_ok: bool = False) -> dict[str, Any]:
    file = root / "index.json"
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_INDEX + 1)
    except FileNotFoundError:
        if missing_ok:
            return {}
        raise InputError(f"{root} is no OCI layout: it has no index.json") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > MAX_INDEX:
        raise InputError(f"{file} has more than {MAX_INDEX} bytes, too many for an index")
    try:
        index = json.loads(data) if data or not missing_ok else {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON") from error
    if not isinstance(index, dict):
        raise InputError(f"{file} holds no JSON object")
    return index


def _manifests(index: Mapping[str, Any], root: Path) -> list[Descriptor]:
    entries = index.get("manifests")
    if entries is None:  # as Go writes an empty list
        return []
    if not isinstance(entries, list):
        raise InputError(f"'manifests' of {root / 'index.json'} is no list")
    found = [Descriptor.parse(entry) for entry in entries]
    if None in found:
        raise InputError(f"entry {found.index(None)} of {root / 'index.json'} is no OCI descriptor")
    return [entry for entry in found if entry is not None]


def _are_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lock of the index, a file that is there only meanwhile."""
    path = root / "index.json.lock"
    end = time.monotonic() + PATIENCE
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() > end:
            raise TransferError(f"{path} is locked by another program")
        time.sleep(0.02)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had the lock has removed its file: that of another may be there by now.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _replace(file: Path, value: object) -> None:
    """Write a file aside and put it into its place."""
    aside = file.with_name(f".tmp.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(descriptor, "w", encoding="utf-8") as opened:
            json.dump(value, opened, separators=(",", ":"))
            opened.flush()
            os.fsync(descriptor)
        aside.replace(file)
    finally:
        with suppress(OSError):
            aside.unlink()
