"""Rules about the sources of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from buildkit_session.errors import InputError
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy import Policy, PolicyAction
from buildkit_session.request.source_policy import read_source_policy

if TYPE_CHECKING:
    from pathlib import Path

RULES = {"rules": [{"action": "DENY", "selector": {"identifier": "docker-image://docker.io/library/*"}}]}


def test_all_forms_are_the_same_rules(tmp_path: Path) -> None:
    json, wire = tmp_path / "policy.json", tmp_path / "policy.pb"
    taken = read_source_policy(RULES)
    json.write_text(taken.to_json())
    wire.write_bytes(bytes(taken))
    assert taken.rules[0].action == PolicyAction.DENY
    assert read_source_policy(json) == read_source_policy(str(wire)) == taken


def test_an_empty_file_has_no_rules(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert read_source_policy(tmp_path / "empty") == Policy()


@pytest.mark.parametrize("data", [b"{", b'{"rules": 3}', b'{"rules": [{"action": "NONSENSE"}]}', b"nonsense", b"\x08"])
def test_what_holds_no_rules(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "policy").write_bytes(data)
    with pytest.raises(InputError, match="policy holds no source policy, such as"):
        read_source_policy(tmp_path / "policy")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"failed to load the source policy: open .*: No such file"):
        read_source_policy(tmp_path / "missing")
    with pytest.raises(InputError, match=r"must be a mapping such as .*, or a path, not an int"):
        read_source_policy(3)
