"""What a build leaves behind, as values that two builds can be compared by.

What must differ between two builds is put out of sight: digests of what contains a time, times themselves, and ids that
are drawn for one build. Everything else stays.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import tarfile
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["Reader", "image", "of_bytes", "of_path", "scrub", "shape"]

#: Gives the bytes of a file of an image layout by its name there, or ``None``.
Reader: TypeAlias = "Callable[[str], bytes | None]"

_HIDDEN = (
    (re.compile(r"sha256:[0-9a-f]{64}"), "sha256:*"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "DIGEST"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), "TIME"),
    (re.compile(r"\b[0-9a-z]{25}\b"), "ID"),
    (re.compile(r"\bstep\d+\b"), "STEP"),
)
# What a report says of the load on the machine, of sizes of what has times in it, and of the id of a session.
_PASSING = frozenset({"definition", "resourceUsage", "size", "sysUsage"})
# Files that a daemon writes about a build, with times in them.
_REPORTS = re.compile(r"(provenance|sbom|spdx)[^/]*\.json$")


def scrub(text: str) -> str:
    """Put out of sight what differs from build to build."""
    for pattern, sign in _HIDDEN:
        text = pattern.sub(sign, text)
    return text


def shape(value: object) -> object:
    """Scrub all texts of a JSON value; lists are sorted, as reports name the steps of a build in no order."""
    match value:
        case str():
            return scrub(value)
        case list():
            return sorted((shape(item) for item in value), key=repr)
        case dict():
            return {scrub(key): "PASSING" if key in _PASSING else shape(item) for key, item in sorted(value.items())}
        case _:
            return value


def of_path(path: Path) -> object:
    """Describe a file or folder that a build has made, by what it is."""
    if path.is_dir():
        if (path / "index.json").exists():
            return image(_reader_of_folder(path))
        return dict(_tree(path))
    return of_bytes(path.read_bytes())


def of_bytes(raw: bytes) -> object:
    """Describe an archive member by member or as the image in it, a JSON value by its shape, and all else as text."""
    try:
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            return _archive(archive)
    except tarfile.TarError:
        pass
    try:
        return shape(json.loads(raw))
    except ValueError:
        return scrub(raw.decode(errors="backslashreplace"))


def image(read: Reader) -> object:
    """Describe the image in a layout: its index, manifests and configurations, and what is known of its layers."""
    index = read("index.json")
    listing = read("manifest.json")
    return {
        "layout": read("oci-layout"),
        "index": _described(json.loads(index), read) if index else None,
        "names": [entry["RepoTags"] for entry in json.loads(listing)] if listing else None,
    }


def _archive(archive: tarfile.TarFile) -> object:
    names = archive.getnames()
    if "index.json" in names or "manifest.json" in names:

        def read(name: str) -> bytes | None:
            file = archive.extractfile(name) if name in names else None
            return file.read() if file else None

        return image(read)
    return [_member(archive, member) for member in archive]


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[object, ...]:
    file = archive.extractfile(member) if member.isfile() else None
    content = _content(member.name, file.read()) if file else None
    header = (member.name, member.type, member.mode, member.uid, member.gid, member.linkname)
    return (
        *header,
        sorted(member.pax_headers.items()),
        None if _REPORTS.search(member.name) else member.mtime,
        content,
    )


def _tree(root: Path) -> Iterator[tuple[str, object]]:
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        found = path.lstat()
        content = _content(name, path.read_bytes()) if stat.S_ISREG(found.st_mode) else None
        target = os.readlink(path) if stat.S_ISLNK(found.st_mode) else None
        # A folder may be the client's own, made on the way to the destination.
        made = None if _REPORTS.search(name) or stat.S_ISDIR(found.st_mode) else found.st_mtime_ns
        yield name, (oct(found.st_mode), found.st_uid, found.st_gid, made, target, content)


def _content(name: str, raw: bytes) -> object:
    return shape(json.loads(raw)) if _REPORTS.search(name) else (len(raw), hashlib.sha256(raw).hexdigest())


def _reader_of_folder(root: Path) -> Reader:
    def read(name: str) -> bytes | None:
        path = root / name
        return path.read_bytes() if path.is_file() else None

    return read


def _described(value: Mapping[str, Any], read: Reader) -> object:
    """Describe an index or a manifest, and what it points to."""
    about = {name: shape(value[name]) for name in ("mediaType", "annotations", "artifactType") if name in value}
    if "manifests" in value:
        return about | {"manifests": [_pointed(entry, read) for entry in value["manifests"]]}
    layers = [_layer(layer, read) for layer in value.get("layers", [])]
    return about | {"config": _config(value["config"], read), "layers": layers}


def _pointed(descriptor: Mapping[str, Any], read: Reader) -> object:
    about = {name: shape(item) for name, item in descriptor.items() if name not in {"digest", "size"}}
    raw = _blob(descriptor, read)
    return (about, _described(json.loads(raw), read)) if raw is not None else (about, "missing")


def _config(descriptor: Mapping[str, Any], read: Reader) -> object:
    raw = _blob(descriptor, read)
    if raw is None:
        return (descriptor["mediaType"], "missing")
    value = json.loads(raw)
    # What is said about an image is an image too, for no architecture; its layers have times in them.
    if "rootfs" not in value or value["architecture"] == "unknown":
        return (descriptor["mediaType"], shape(value))
    history = [{name: text for name, text in step.items() if name != "created"} for step in value.get("history", [])]
    return (descriptor["mediaType"], {**value, "created": None, "history": history})


def _layer(descriptor: Mapping[str, Any], read: Reader) -> object:
    """Describe a layer by its type; its content is known by the ids in the configuration, so only its kind is added."""
    about = {name: shape(item) for name, item in descriptor.items() if name not in {"digest", "size"}}
    raw = _blob(descriptor, read)
    if raw is None:
        return (about, "missing")
    return (about, shape(json.loads(raw))) if "json" in descriptor["mediaType"] else (about, _magic(raw))


def _magic(raw: bytes) -> str:
    for name, start in (("gzip", b"\x1f\x8b"), ("zstd", b"\x28\xb5\x2f\xfd")):
        if raw.startswith(start):
            return name
    return "tar" if raw[257:262] == b"ustar" else "other"


def _blob(descriptor: Mapping[str, Any], read: Reader) -> bytes | None:
    return read("blobs/" + descriptor["digest"].replace(":", "/"))
