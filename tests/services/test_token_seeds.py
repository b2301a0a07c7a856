"""The file that token keys are made of."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from buildkit_session.errors import InputError
from buildkit_session.services.token_seeds import TokenSeeds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED = bytes(range(16))


def test_a_seed_stays_the_same(tmp_path: Path) -> None:
    """AU-16: for this client and the next, one for each registry; the file is the owner's alone."""
    seed = TokenSeeds(tmp_path / "new").get("reg.example:5000")
    assert len(seed) == 16
    assert TokenSeeds(tmp_path / "new").get("reg.example:5000") == seed
    assert TokenSeeds(tmp_path / "new").get("reg.example") != seed
    file = tmp_path / "new/.token_seed"
    assert file.stat().st_mode & 0o777 == 0o600
    assert base64.b64decode(json.loads(file.read_text())["reg.example:5000"]["Seed"]) == seed
    assert sorted(path.name for path in file.parent.iterdir()) == [".token_seed", ".token_seed.lock"]


def test_seeds_of_docker_are_used_and_kept(tmp_path: Path) -> None:
    entries = {"a": {"Seed": base64.b64encode(SEED).decode()}, "b": {"Seed": "?", "x": 1}}
    (tmp_path / ".token_seed").write_text(json.dumps(entries))
    seeds = TokenSeeds(tmp_path)
    assert seeds.get("a") == SEED
    assert len(seeds.get("b")) == 16
    assert json.loads((tmp_path / ".token_seed").read_text())["a"] == entries["a"]


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"a": 1}', '{"a": {"Seed": 7}}', "\0\xff"])
def test_a_broken_file_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / ".token_seed").write_text(text)
    seed = TokenSeeds(tmp_path).get("a")
    assert TokenSeeds(tmp_path).get("a") == seed


@contextmanager
def without_permissions(directory: Path) -> Iterator[None]:
    root = os.geteuid() == 0
    directory.chmod(0o555)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o755)


def test_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    """The value is good for this client then."""
    with without_permissions(tmp_path):
        seeds = TokenSeeds(tmp_path)
        seed = seeds.get("a")
        assert len(seed) == 16
        assert seeds.get("a") == seed
        assert TokenSeeds(tmp_path).get("a") != seed
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used: "):
        TokenSeeds(tmp_path / "file").get("a")


def test_many_at_once_agree(tmp_path: Path) -> None:
    found: list[tuple[str, bytes]] = []

    def get(number: int) -> None:
        host = str(number % 4)
        found.append((host, TokenSeeds(tmp_path).get(host)))

    threads = [threading.Thread(target=get, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 24
    assert len(set(found)) == 4


def test_the_lock_of_another_program_is_waited_for(tmp_path: Path) -> None:
    with (tmp_path / ".token_seed.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=TokenSeeds(tmp_path).get, args=("a",))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join()
    assert (tmp_path / ".token_seed").exists()
