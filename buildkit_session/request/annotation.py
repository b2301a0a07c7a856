"""Annotations of images: ``--annotation [TYPE[PLATFORM],...:]KEY=VALUE``, sent as attributes of outputs.

Source: docker/buildx:util/buildflags/export.go (ParseAnnotations);
moby/buildkit:exporter/containerimage/exptypes/annotations.go (AnnotationKey.String).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError
from buildkit_session.request import platforms
from buildkit_session.request.arguments import texts
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["read_annotations"]

_TYPE: Final = re.compile(r"([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?", re.ASCII)
_OF_INDEX: Final = ("index", "index-descriptor")
_OF_MANIFEST: Final = ("manifest", "manifest-descriptor")
_PREFIX: Final = "annotation"


def read_annotations(given: object) -> dict[str, str]:
    """Take a sequence of texts, or a mapping of ``[TYPE:]KEY`` to values.

    Returns:
        Exporter attributes and their values, such as ``annotation-manifest[linux/amd64].KEY``.

    Raises:
        InputError: one of them has no ``=``, or an unknown type or platform.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        pairs = [(str(where), _require_text(where, value)) for where, value in given.items()]
    else:
        pairs = [_split(text) for text in texts("annotations", given) if text]
    return {attribute: value for where, value in pairs for attribute in _attributes(where)}


def _split(text: str) -> tuple[str, str]:
    where, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"invalid annotation {text!r}, expected key=value")
    return where, value


def _require_text(where: object, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"annotations: the value of {where!r} must be a text, not {a_type(value)}")
    return value


def _attributes(where: str) -> Iterator[str]:
    types, separator, key = where.partition(":")
    if not separator:
        yield f"{_PREFIX}.{where}"
        return
    for kind in types.split(","):
        yield f"{_attribute(kind)}.{key}"


def _attribute(kind: str) -> str:
    found = _TYPE.fullmatch(kind)
    if found is None:
        raise InputError(f"invalid annotation type {kind!r}, expected type and optional platform in square brackets")
    name, platform = found[1], found[2]
    if name not in (*_OF_INDEX, *_OF_MANIFEST):
        raise InputError(f"unknown annotation type {name!r}; known are {', '.join((*_OF_MANIFEST, *_OF_INDEX))}")
    # An index is for all platforms: buildx checks one that is given, and leaves it out.
    chosen = f"[{platforms.parse(platform)}]" if platform else ""
    return f"{_PREFIX}-{name}{chosen if name in _OF_MANIFEST else ''}"
