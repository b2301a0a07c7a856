"""Rules about the sources of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from buildkit_session.errors import InputError
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy import Policy, PolicyAction
from buildkit_session.request.build_request import BuildRequest
from buildkit_session.request.source_policy import read_source_policies, read_source_policy
from buildkit_session.services import policy

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
    with pytest.raises(
        InputError, match=r"must be a mapping such as .*, a path, or a function that decides, not an int"
    ):
        read_source_policy(3)


def decide(_source: policy.Source) -> policy.Decision:
    return policy.allow()


def test_functions() -> None:
    """Alone, or with rules beside it."""
    assert read_source_policies(decide) == (None, policy.Verifier(decide))
    both = policy.verifier(decide, timeout=1, rules=RULES)
    assert read_source_policies(both) == (read_source_policy(RULES), both)
    request = BuildRequest.of(source_policy=decide)
    assert (request.source_policy, request.policy_verifier) == (None, policy.Verifier(decide, policy.PATIENCE))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: policy.verifier(3), "must be a function of a source, not an int"),  # type: ignore[arg-type]
        (lambda: policy.verifier(decide, timeout=0), "must be seconds above 0, or None, not 0"),
        (lambda: read_source_policies(policy.verifier(decide, rules="nowhere")), "failed to load the source policy"),
        (lambda: policy.deny("x" * (policy.MAX_MESSAGE + 1)), "at most 32 messages of 2048 characters"),
        (lambda: policy.deny(*["x"] * (policy.MAX_MESSAGES + 1)), "at most 32 messages"),
        (lambda: policy.deny(3), "must be texts"),  # type: ignore[arg-type]
        (lambda: policy.convert("alpine"), "such as docker-image://alpine, not by 'alpine'"),
        (lambda: policy.convert("a://b", {"c": 1}), "mapping of names to texts"),  # type: ignore[dict-item]
        (lambda: policy.more(http_algorithm="md5"), "must be sha256, sha384 or sha512"),  # type: ignore[arg-type]
    ],
)
def test_no_policy_and_no_decision(make: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        make()
