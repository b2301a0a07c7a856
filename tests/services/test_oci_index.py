"""What index.json says, and how it is changed."""

from __future__ import annotations

import fcntl
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from buildkit_session.errors import InputError
from buildkit_session.services.oci_index import IMAGE_NAME, REF_NAME, add_manifest, resolve

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def entry(number: int, tag: str | None = None, name: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"mediaType": MANIFEST, "digest": digest(number), "size": number}
    noted = {key: value for key, value in ((REF_NAME, tag), (IMAGE_NAME, name)) if value is not None}
    return {**found, "annotations": noted} if noted else found


def layout(root: Path, *entries: dict[str, Any]) -> Path:
    (root / "blobs/sha256").mkdir(parents=True)
    for number in range(5):
        (root / "blobs" / digest(number).replace(":", "/")).write_bytes(b"x" * number)
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(entries)}))
    return root


def index(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((root / "index.json").read_text())
    return loaded


@pytest.mark.parametrize(
    ("tag", "number"),
    [("v1", 1), ("latest", 2), ("docker.io/library/a:v1", 3), (digest(1), 1), (digest(4), 4)],
)
def test_a_tag_is_found(tmp_path: Path, tag: str, number: int) -> None:
    """By the full name first; a digest need not be listed."""
    root = layout(tmp_path, entry(1, "v1"), entry(2, "latest"), entry(3, "v1", "docker.io/library/a:v1"))
    found = resolve(root, tag)
    assert (str(found.digest), found.size) == (digest(number), number)


def test_the_only_entry_is_taken_where_the_caller_says_so(tmp_path: Path) -> None:
    root = layout(tmp_path, entry(1, "v1"))
    assert str(resolve(root, or_only=True).digest) == digest(1)
    with pytest.raises(InputError, match="has no 'latest': it has v1"):
        resolve(root)


def test_one_of_several_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it has v1, sha256:"):
        resolve(layout(tmp_path, entry(1, "v1"), entry(2)), or_only=True)


@pytest.mark.parametrize("tag", ["v9", digest(9)])
def test_a_blob_that_is_missing(tmp_path: Path, tag: str) -> None:
    with pytest.raises(InputError, match=r"missing|has no"):
        resolve(layout(tmp_path, entry(9, "v9")), tag)


def test_no_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no index\.json"):
        resolve(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"manifests": {}}',
        '{"manifests": [7]}',
        '{"manifests": [{}]}',
        '{"manifests": [{"digest": "sha256:../../x", "size": 1}]}',
        json.dumps({"manifests": [{"digest": digest(1), "size": -1}]}),
        json.dumps({"manifests": [{"digest": digest(1), "size": True}]}),
        json.dumps({"manifests": [{"digest": digest(1), "size": 1, "mediaType": 7}]}),
        json.dumps({"manifests": [{"digest": digest(1), "size": 1, "annotations": {"a": 7}}]}),
    ],
)
def test_a_broken_index(tmp_path: Path, text: str) -> None:
    """It may come from anywhere. Nor is it overwritten."""
    root = layout(tmp_path)
    (root / "index.json").write_text(text)
    with pytest.raises(InputError, match=r"index\.json"):
        resolve(root)
    if text:
        with pytest.raises(InputError, match=r"index\.json"):
            add_manifest(root, entry(1))
        assert (root / "index.json").read_text() == text


def test_a_new_layout(tmp_path: Path) -> None:
    add_manifest(tmp_path / "new", entry(1))
    assert json.loads((tmp_path / "new/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert index(tmp_path / "new") == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(1, "latest")],
    }
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["index.json", "oci-layout"]


def test_an_entry_of_the_same_tag_is_replaced(tmp_path: Path) -> None:
    """And everything else stays, what is unknown here too."""
    root = layout(tmp_path, entry(1, "v1"), {**entry(2, "latest"), "x": [1]}, entry(3, "latest", "a/b:latest"))
    (root / "index.json").write_text(json.dumps({**index(root), "annotations": {"k": "v"}}))
    add_manifest(root, entry(4), tag="v1")
    assert index(root)["manifests"] == [
        {**entry(2, "latest"), "x": [1]},
        entry(3, "latest", "a/b:latest"),
        entry(4, "v1"),
    ]
    assert index(root)["annotations"] == {"k": "v"}


def test_every_name_is_an_entry(tmp_path: Path) -> None:
    root = layout(tmp_path, entry(1, "1", "docker.io/library/a:1"))
    described = {**entry(2), "annotations": {"config": "kept"}}
    add_manifest(root, described, names=["docker.io/library/a:1", "reg:5000/b/c:2", "reg/d@sha256:ab", "reg/e"])
    tags = {found["annotations"][IMAGE_NAME]: found["annotations"][REF_NAME] for found in index(root)["manifests"]}
    assert tags == {"docker.io/library/a:1": "1", "reg:5000/b/c:2": "2", "reg/d@sha256:ab": "@sha256:ab", "reg/e": ""}
    assert all(found["annotations"]["config"] == "kept" for found in index(root)["manifests"])


def test_what_is_no_descriptor_is_not_added(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no OCI descriptor"):
        add_manifest(tmp_path / "new", {"digest": "sha256:../x", "size": 1})
    assert not (tmp_path / "new").exists()


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=add_manifest, args=(tmp_path, entry(n)), kwargs={"tag": str(n)}) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {found["annotations"][REF_NAME] for found in index(tmp_path)["manifests"]} == set(map(str, range(20)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "oci-layout"]


def test_the_lock_of_another_program_is_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "index.json.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=add_manifest, args=(tmp_path, entry(1)))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert not (tmp_path / "index.json").exists()
        lock.unlink()
    waiting.join()
    assert index(tmp_path)["manifests"] == [entry(1, "latest")]
