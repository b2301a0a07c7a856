"""What of an image is missing in a layout, found by its manifests."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from buildkit_session.services.digests import Digest
from buildkit_session.services.oci_contents import missing_blob
from buildkit_session.services.oci_index import Descriptor
from buildkit_session.services.oci_layout import OciLayout
from buildkit_session.services.read_check import MAX_BLOBS, ReadCheck

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def put(root: Path, data: bytes, media_type: str = "x") -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    file = root / "blobs/sha256" / digest
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data), "mediaType": media_type}


def put_json(root: Path, media_type: str, **fields: object) -> dict[str, Any]:
    return put(root, json.dumps(fields).encode(), media_type)


def missing(root: Path, top: dict[str, Any]) -> str | None:
    described = Descriptor.parse(top)
    assert described is not None
    found = missing_blob(OciLayout(root), described)
    return None if found is None else str(found.digest)


@pytest.fixture
def image(tmp_path: Path) -> dict[str, dict[str, Any]]:
    layer, config = put(tmp_path, b"layer"), put(tmp_path, b"{}")
    manifest = put_json(tmp_path, MANIFEST, config=config, layers=[layer, layer])
    index = put_json(tmp_path, INDEX, manifests=[manifest])
    return {"layer": layer, "config": config, "manifest": manifest, "index": index}


def path(root: Path, descriptor: dict[str, Any]) -> Path:
    digest: str = descriptor["digest"]
    return root / "blobs" / digest.replace(":", "/")


def test_a_whole_image(tmp_path: Path, image: dict[str, dict[str, Any]]) -> None:
    assert missing(tmp_path, image["index"]) is None


@pytest.mark.parametrize("what", ["layer", "config", "manifest", "index"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_what_is_missing(tmp_path: Path, image: dict[str, dict[str, Any]], what: str, how: str) -> None:
    if how == "gone":
        path(tmp_path, image[what]).unlink()
    else:
        path(tmp_path, image[what]).write_bytes(b"")
    assert missing(tmp_path, image["index"]) == image[what]["digest"]


def test_a_layer_that_lies_elsewhere_may_be_missing(tmp_path: Path) -> None:
    layer = {**put(tmp_path, b"layer"), "urls": ["https://example.com/layer"]}
    path(tmp_path, layer).unlink()
    assert missing(tmp_path, put_json(tmp_path, MANIFEST, layers=[layer])) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"layers": 1, "config": []}', b'{"manifests": [1, {}]}'])
def test_a_manifest_of_any_shape(tmp_path: Path, data: bytes) -> None:
    """It comes from the daemon."""
    assert missing(tmp_path, put(tmp_path, data, MANIFEST)) is None


def test_an_index_within_itself_ends(tmp_path: Path) -> None:
    top = put_json(tmp_path, INDEX)
    for _ in range(10):
        top = put_json(tmp_path, INDEX, manifests=[top])
    assert missing(tmp_path, top) is None


def digest_of(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def test_what_is_read_in_order_is_checked() -> None:
    check, right, wrong = ReadCheck(), digest_of(b"abcd"), digest_of(b"other")
    for digest, sound in ((right, True), (wrong, False)):
        assert check.is_sound(digest, 0, b"ab", 4)
        assert check.is_sound(digest, 2, b"c", 4)
        assert check.is_sound(digest, 3, b"d", 4) is sound
    assert check._blobs == {}


def test_what_is_read_in_any_other_order_is_not() -> None:
    check, wrong = ReadCheck(), digest_of(b"other")
    assert check.is_sound(wrong, 2, b"cd", 4)
    assert check.is_sound(wrong, 0, b"a", 4)
    assert check.is_sound(wrong, 3, b"d", 4)
    assert check._blobs == {}


def test_the_end_of_a_damaged_blob_is_not_to_be_had_by_itself() -> None:
    """As a daemon asks for it that goes on where it was refused."""
    check, wrong = ReadCheck(), digest_of(b"abcd")
    assert check.is_sound(wrong, 0, b"ab", 4)
    assert not check.is_sound(wrong, 2, b"cx", 4)
    assert not check.is_sound(wrong, 2, b"c", 4)
    assert not check.is_sound(wrong, 3, b"x", 4)
    assert check.is_sound(wrong, 0, b"abcd", 4)  # it was mended
    assert check.is_sound(wrong, 3, b"d", 4)


def test_few_blobs_are_followed() -> None:
    check = ReadCheck()
    for number in range(2 * MAX_BLOBS):
        assert check.is_sound(digest_of(b"%d" % number), 0, b"x", 4)
    assert len(check._blobs) == MAX_BLOBS
