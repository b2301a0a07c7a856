"""What belongs to an image or a cache in a layout: the blobs that its manifests name, from the top down.

Everything here may block.

Source: opencontainers/image-spec:manifest.md, image-index.md.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import TransferError
from buildkit_session.services.oci_index import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.services.oci_layout import OciLayout

__all__ = ["missing_blob"]

MAX_MANIFEST: Final = 4 * 1024 * 1024
"""Bytes of a manifest that is looked into, as registries have it."""

MAX_DEPTH: Final = 4
"""Indexes within each other; BuildKit writes one above the manifests."""


def missing_blob(layout: OciLayout, top: Descriptor) -> Descriptor | None:
    """Find a blob that should be there and is not, or has another size.

    Layers that are named by a URL as well need not be there. What is no manifest is not looked into.

    Args:
        layout: that was written.
        top: of the image or the cache.

    Returns:
        The first one that is missing, ``None`` if all is there.

    Raises:
        TransferError: the layout cannot be read.
    """
    level = [top]
    seen = {top.digest}
    for _ in range(MAX_DEPTH):
        for descriptor in level:
            if layout.size_of(descriptor.digest) != descriptor.size and not descriptor.fields.get("urls"):
                return descriptor
        found = {below.digest: below for descriptor in level for below in _named_by(layout, descriptor)}
        level = [below for digest, below in found.items() if digest not in seen]
        seen |= found.keys()
    return None


def _named_by(layout: OciLayout, descriptor: Descriptor) -> Iterator[Descriptor]:
    manifest = _manifest(layout, descriptor)
    lists = (manifest.get("manifests"), manifest.get("layers"), [manifest.get("config")])
    for entries in lists:
        for entry in entries if isinstance(entries, list) else ():
            if (below := Descriptor.parse(entry)) is not None:
                yield below


def _manifest(layout: OciLayout, descriptor: Descriptor) -> dict[str, object]:
    """The fields of a manifest; none for what is something else."""
    if descriptor.size > MAX_MANIFEST or not any(word in descriptor.media_type for word in ("manifest", "index")):
        return {}
    opened = layout.open_blob(descriptor.digest)
    if opened is None:
        return {}
    try:
        with open(opened, "rb") as file:  # which reads on where one read does not get all
            fields = json.loads(file.read(MAX_MANIFEST))
    except OSError as error:
        raise TransferError(f"cannot read {layout.directory}: {error.strerror}") from error
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
