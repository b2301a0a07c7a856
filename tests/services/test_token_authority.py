"""Keys of token authorities, by values that docker buildx gives for the same input."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from buildkit_session.errors import RpcError
from buildkit_session.services.token_authority import TokenAuthority
from buildkit_session.services.token_seeds import TokenSeeds

if TYPE_CHECKING:
    from pathlib import Path

SALT, PAYLOAD = b"\1" * 32, b"\2" * 32
KEY = "3f5a51c3e318901a34f9f7efe256609d6351ae0c98469d55996078f94e2816a4"
SIGNATURE = (
    "69be68841ecc524d6fc3c10073220891c082dbd32f1f64869cdaf1b039ecc233"
    "daae05546ce456776bea7649d6ccf0b618fe44d29e05a5ad4f40f16013d24908"
)
ANONYMOUS_KEY = "4a134baf59c70e1a8295638371dbf9f4f365b8a78303f5e87be5c1eaad37588c"


@pytest.fixture
def authority(tmp_path: Path) -> TokenAuthority:
    seed = base64.b64encode(bytes(range(16))).decode()
    (tmp_path / ".token_seed").write_text(json.dumps({"a": {"Seed": seed}}))
    return TokenAuthority(TokenSeeds(tmp_path))


def test_keys_and_signatures_are_those_of_buildx(authority: TokenAuthority) -> None:
    assert authority.public_key("a", SALT, secret=True).hex() == KEY
    assert authority.signed("a", SALT, PAYLOAD, secret=True) == bytes.fromhex(SIGNATURE) + PAYLOAD
    assert authority.public_key("a", SALT, secret=False).hex() == ANONYMOUS_KEY


def test_a_key_is_for_one_registry_and_one_daemon(authority: TokenAuthority) -> None:
    keys = {
        authority.public_key("a", SALT, secret=True),
        authority.public_key("b", SALT, secret=True),
        authority.public_key("a", PAYLOAD, secret=True),
    }
    assert len(keys) == 3
    assert authority.public_key("b", SALT, secret=False).hex() == ANONYMOUS_KEY


@pytest.mark.parametrize("payload", [b"", b"\2" * 31, b"\2" * 33, b"\2" * 64])
def test_nothing_but_a_payload_is_signed(authority: TokenAuthority, payload: bytes) -> None:
    with pytest.raises(RpcError, match="32 bytes"):
        authority.signed("a", SALT, payload, secret=True)


@pytest.mark.parametrize("salt", [b"", b"\1" * 2000])
def test_a_salt_of_a_strange_size(authority: TokenAuthority, salt: bytes) -> None:
    with pytest.raises(RpcError, match="salt"):
        authority.public_key("a", salt, secret=True)
