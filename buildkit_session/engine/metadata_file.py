"""What an exporter reports, as the file of ``--metadata-file`` and as the id of ``--iidfile``.

Source: docker/buildx:commands/build.go (decodeExporterResponse, writeMetadataFile, getImageID), build/provenance.go
(encodeProvenance); golang/go:src/encoding/json (Marshal, HTMLEscape).
"""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["image_id", "metadata", "metadata_json", "minimal_provenance"]

DIGEST: Final = "containerimage.digest"
CONFIG_DIGEST: Final = "containerimage.config.digest"

BUILD_REF: Final = "buildx.build.ref"
WARNINGS: Final = "buildx.build.warnings"
PROVENANCE: Final = "buildx.build.provenance"
"""Followed by a slash and the platform in a build for several."""

PLAIN_JSON: Final = "result.json"
"""The one key whose value is JSON without base64: it is metadata of a call's result."""

MAX_DEPTH: Final = 100
"""Of JSON that is taken for such; what is deeper stays the text it is."""

# Go escapes in every JSON text what would mean something to a browser or to JavaScript.
_ESCAPES: Final = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


def metadata(
    response: Mapping[str, str], *, ref: str = "", warnings: Sequence[Mapping[str, object]] = ()
) -> dict[str, object]:
    """Collect what is known of a finished build.

    Args:
        response: of the exporters, or the metadata of a call's result. Values that are base64 of a JSON object, or of a
            list of objects, are decoded; all others stay texts.
        ref: ``BUILDER/NODE/REF``, by which history knows the build; empty for a call, which is not recorded.
        warnings: in the form of rawjson progress.

    Returns:
        Values by name, in order.
    """
    values: dict[str, object] = {key: _decoded(key, value) for key, value in response.items()}
    if ref:
        values[BUILD_REF] = ref
    if warnings:
        values[WARNINGS] = list(warnings)
    return dict(sorted(values.items()))


def metadata_json(values: Mapping[str, object]) -> bytes:
    """Write :func:`metadata` as the bytes that buildx writes: indented by two spaces, no newline at the end."""
    text = json.dumps(values, indent=2, ensure_ascii=False).translate(_ESCAPES)
    return text.encode("utf-8", "replace")  # half a character of UTF-16, which JSON can spell, is none


def image_id(response: Mapping[str, str], *, by_digest: bool = False) -> str:
    """Return the id of the image that was made: the digest of its configuration, else that of its manifest or index.

    Args:
        response: of the exporters.
        by_digest: leave the configuration aside, as for an Engine whose images are known by their digest
            (``prefer-image-digest``).

    Returns:
        ``sha256:...``, or empty when no image was made.
    """
    digest = response.get(DIGEST, "")
    return digest if by_digest else response.get(CONFIG_DIGEST, digest)


def minimal_provenance(predicate: Mapping[str, object]) -> dict[str, object]:
    """Leave out of a provenance predicate what makes it long: the steps, and the times.

    Takes SLSA 0.2, the form that daemons make unless asked for another. Of the other nothing is left out.
    """
    return {key: value for key, value in predicate.items() if key not in {"buildConfig", "metadata"}}


def _decoded(key: str, value: str) -> object:
    try:
        found = json.loads(value if key == PLAIN_JSON else b64decode(value, validate=True))
    except (ValueError, RecursionError):
        return value
    return found if _is_structure(found) and _is_shallow(found) else value


def _is_structure(value: object) -> bool:
    """Tell JSON that was meant from a number or word that happens to be base64 too."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, dict) for one in value)
    return isinstance(value, dict) and bool(value)


def _is_shallow(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return True
    return False


def _inside(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()
